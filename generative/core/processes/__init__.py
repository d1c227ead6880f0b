"""Processes, which turn data into noise and noise into data, by name."""

from __future__ import annotations

from atomsml.generative.core.processes.base import Process
from atomsml.generative.core.processes.categorical import Masking, Uniform
from atomsml.generative.core.processes.gaussian import Karras, LinearInterpolant, PolynomialVP
from atomsml.generative.core.processes.geodesic import BrownianMotion, Geodesic
from atomsml.generative.core.processes.pfgm import PFGMPlusPlus

PROCESSES: dict[str, type[Process]] = {
    "linear-interpolant": LinearInterpolant,
    "polynomial-vp": PolynomialVP,
    "karras": Karras,
    "pfgm++": PFGMPlusPlus,
    "geodesic": Geodesic,
    "brownian-motion": BrownianMotion,
    "masking": Masking,
    "uniform": Uniform,
}
