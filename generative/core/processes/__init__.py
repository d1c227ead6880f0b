"""Processes, which turn data into noise and noise into data, by name."""

from __future__ import annotations

from atomsml.generative.core.processes.base import Process
from atomsml.generative.core.processes.categorical import Masking, Uniform
from atomsml.generative.core.processes.gaussian import Karras, LinearInterpolant, LinearVP, PolynomialVP
from atomsml.generative.core.processes.geodesic import Geodesic, LinearHeat, LogarithmicHeat
from atomsml.generative.core.processes.pfgm import PFGMPlusPlus

PROCESSES: dict[str, type[Process]] = {
    "linear-interpolant": LinearInterpolant,
    "polynomial-vp": PolynomialVP,
    "linear-vp": LinearVP,
    "karras": Karras,
    "pfgm++": PFGMPlusPlus,
    "geodesic": Geodesic,
    "linear-heat": LinearHeat,
    "logarithmic-heat": LogarithmicHeat,
    "masking": Masking,
    "uniform": Uniform,
}
