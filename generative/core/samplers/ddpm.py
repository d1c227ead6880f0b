"""Ancestral sampling: x_s is drawn from q(x_s | x_t, x_0) with the prediction for x_0.

(Ho et al., arXiv:2006.11239, algorithm 2, with the posterior of any Gaussian process, arXiv:2107.00630, section 3.2.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from atomsml.generative.core.fields import Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import per_sample
from atomsml.generative.core.processes.gaussian import GaussianProcess
from atomsml.generative.core.samplers.base import GridSampler, gaussian


@dataclass(frozen=True)
class DDPM(GridSampler):
    """One prediction and fresh noise in every step; its error falls like 1 / steps, from a higher level than DDIM's."""

    allowed: ClassVar[type] = GaussianProcess

    def step(
        self, predict: Predict, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        data = predict(state, t)
        stepped = {}
        for name, field in fields.items():
            mean, std = gaussian(field).posterior(state[name], data[name], t, s)
            stepped[name] = mean + per_sample(std, mean) * noise(field.space)
        return stepped
