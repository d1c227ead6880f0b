"""Samplers by name: one algorithm a file."""

from __future__ import annotations

from atomsml.config import choose
from atomsml.generative.core.samplers.adaptive import Adaptive
from atomsml.generative.core.samplers.base import Sampler
from atomsml.generative.core.samplers.ddim import DDIM
from atomsml.generative.core.samplers.ddpm import DDPM
from atomsml.generative.core.samplers.euler import Euler
from atomsml.generative.core.samplers.heun import Heun
from atomsml.generative.core.samplers.predictor_corrector import PredictorCorrector
from atomsml.generative.core.samplers.random_walk import RandomWalk

SAMPLERS: dict[str, type[Sampler]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "euler": Euler,
    "heun": Heun,
    "adaptive": Adaptive,
    "predictor-corrector": PredictorCorrector,
    "random-walk": RandomWalk,
}


def find_sampler(name: str) -> Sampler:
    """The sampler of a name in any case, with its defaults.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    return SAMPLERS[choose("sampler", name, SAMPLERS)]()
