"""From noise to data: what all samplers have in common. They know fields and predictions of data, not networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from atomsml.generative.core.fields import Field, Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.gaussian import GaussianProcess


class Sampler(ABC):
    """An algorithm that turns the state at t = 1 into one at t = 0."""

    allowed: ClassVar[type]  # of process: it takes fields with such processes

    def sample(
        self, predict: Predict, fields: Fields, state: State, times: Tensor, noise: SampleNoise
    ) -> Iterator[State]:
        """The state after every step; the last is the result.

        Args:
            state: at times[0], as `fields.prior` draws it.
            times: (steps + 1,) falling, usually from 1 to 0.

        Raises:
            ValueError: a process that this sampler does not allow, or times that do not fall.
        """
        for name, field in fields.items():
            if not isinstance(field.process, self.allowed):
                raise ValueError(
                    f"the sampler {type(self).__name__} does not allow the process {type(field.process).__name__} of "
                    f"the field {name!r}, it needs a {self.allowed.__name__}; the sampler Euler takes every process"
                )
        if len(times) < 2 or not bool((times.diff() < 0).all()):
            raise ValueError(f"times must fall from 1 to 0 in at least one step, got {times.tolist()}")
        return self.run(predict, fields, state, times, noise)

    @abstractmethod
    def run(self, predict: Predict, fields: Fields, state: State, times: Tensor, noise: SampleNoise) -> Iterator[State]:
        """`sample`, of fields that are allowed."""


class GridSampler(Sampler, ABC):
    """A sampler whose steps are those of the given times."""

    def run(self, predict: Predict, fields: Fields, state: State, times: Tensor, noise: SampleNoise) -> Iterator[State]:
        for i in range(len(times) - 1):
            t, s = times[i].expand(len(noise)), times[i + 1].expand(len(noise))
            state = project(fields, self.step(predict, fields, state, t, s, noise, len(times) - 1), noise)
            yield state

    @abstractmethod
    def step(
        self, predict: Predict, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        """The state at s, from that at t > s, both (samples,); there are `steps` in all."""


def project(fields: Fields, state: State, noise: SampleNoise) -> State:
    """Back onto the spaces: rounding and careless predictions must not add up."""
    return {name: field.space.project(state[name], noise.mask) for name, field in fields.items()}


def time_grid(steps: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """(steps + 1,) equal steps from 1 to 0."""
    return torch.linspace(1, 0, steps + 1, dtype=dtype, device=device)


def gaussian(field: Field) -> GaussianProcess:
    """The process of a field that `Sampler.sample` has found to be Gaussian."""
    assert isinstance(field.process, GaussianProcess)
    return field.process
