"""The predicted data with the predicted noise, put together anew: x_s = alpha_s data + sigma_s noise.

(Song et al., arXiv:2010.02502, equation 12 with its sigma = 0.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from atomsml.generative.core.fields import Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.gaussian import GaussianProcess
from atomsml.generative.core.samplers.base import GridSampler, gaussian


@dataclass(frozen=True)
class DDIM(GridSampler):
    """One prediction a step and no noise; with linear interpolation it is Euler's method."""

    allowed: ClassVar[type] = GaussianProcess

    def step(
        self, predict: Predict, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        data = predict(state, t)
        return {name: gaussian(field).deterministic(state[name], data[name], t, s) for name, field in fields.items()}
