"""Euler's method, for every process: x_s = exp(x_t, (s - t) velocity); categories jump with their rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from atomsml.generative.core.fields import Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import Process
from atomsml.generative.core.samplers.base import GridSampler


@dataclass(frozen=True)
class Euler(GridSampler):
    """One prediction a step; its error falls like 1 / steps."""

    allowed: ClassVar[type] = Process

    def step(
        self, predict: Predict, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        data = predict(state, t)
        return {
            name: field.process.step(field.space, state[name], data[name], t, s, noise)
            for name, field in fields.items()
        }
