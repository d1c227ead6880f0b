"""Ancestral steps, each followed by Langevin dynamics at its new time (Song et al., arXiv:2011.13456, algorithms 3, 5).

    x <- x + epsilon score(x) + sqrt(2 epsilon) z,    epsilon = 2 (r |z| / |score|)^2

The norms stand for their averages, |z| / |score| = sigma: molecules have few coordinates, and a step that depended on
the draw would not leave the distribution as it is. epsilon = 2 (r sigma)^2 then is the same for all samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from atomsml.generative.core.fields import Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import per_sample
from atomsml.generative.core.processes.gaussian import GaussianProcess
from atomsml.generative.core.samplers.base import GridSampler, gaussian, project
from atomsml.generative.core.samplers.ddpm import DDPM


@dataclass(frozen=True)
class PredictorCorrector(GridSampler):
    """Two predictions a step, one in the last to t = 0; the variance it leaves is too large by a fraction < r^2."""

    allowed: ClassVar[type] = GaussianProcess

    signal_to_noise: float = 0.16  # r

    def step(
        self, predict: Predict, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        state = project(fields, DDPM().step(predict, fields, state, t, s, noise, steps), noise)
        if bool((s == 0).any()):
            return state
        data = predict(state, s)
        corrected = {}
        for name, field in fields.items():
            process = gaussian(field)
            sigma = process.sigma(s)
            # epsilon score = -2 r^2 sigma noise
            drift = -per_sample(2 * self.signal_to_noise**2 * sigma, data[name]) * process.noise(
                state[name], data[name], s
            )
            spread = per_sample(2 * self.signal_to_noise * sigma, data[name])
            corrected[name] = state[name] + drift + spread * noise(field.space)
        return corrected
