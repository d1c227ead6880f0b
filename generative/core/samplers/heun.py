"""Heun's method of second order, with churn (Karras et al., arXiv:2206.00364, algorithm 2).

Churn first adds noise to the state, so that the ratio sigma / alpha grows by a factor 1 + gamma, and then steps from
there: what earlier steps did wrong is forgotten in part. gamma = min(churn / steps, sqrt(2) - 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atomsml.generative.core.fields import Field, Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import Flow, per_sample
from atomsml.generative.core.processes.gaussian import GaussianProcess
from atomsml.generative.core.samplers.base import GridSampler
from atomsml.generative.core.spaces.base import Manifold


@dataclass(frozen=True)
class Heun(GridSampler):
    """Two predictions a step, one in the last to t = 0, where no velocity is defined.

    Raises:
        ValueError: churn of a process that is not Gaussian, or of fields with different processes.
    """

    allowed: ClassVar[type] = Flow

    churn: float = 0.0  # S_churn; 0 is the ordinary differential equation
    churn_from: float = 0.05  # S_tmin, a ratio sigma / alpha
    churn_to: float = 50.0  # S_tmax
    churn_noise: float = 1.003  # S_noise: slightly above 1, networks remove slightly too much

    def step(
        self, predict: Predict, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        if self.churn > 0:
            state, t = self._churned(fields, state, t, noise, steps)
        first = _velocities(fields, state, predict(state, t), t)
        ahead = _moved(fields, state, first, s - t)
        if bool((s == 0).any()):
            return ahead
        second = _velocities(fields, ahead, predict(ahead, s), s)
        mean = {name: (first[name] + second[name]) / 2 for name in fields}
        return _moved(fields, state, mean, s - t)

    def _churned(self, fields: Fields, state: State, t: Tensor, noise: SampleNoise, steps: int) -> tuple[State, Tensor]:
        """More noise, and the time that belongs to it."""
        process = _common_process(fields)
        ratio = process.sigma(t) / process.alpha(t)
        gamma = min(self.churn / steps, math.sqrt(2) - 1)
        inside = (ratio >= self.churn_from) & (ratio <= self.churn_to)
        later = process.time_of_ratio((1 + gamma) * ratio)
        scale, variance = process.transition(t, later)
        scale = torch.where(inside, scale, 1)  # outside it may be undefined: at t = 1 there may be no signal
        variance = torch.where(inside, variance, 0)
        noisier = {
            name: per_sample(scale, state[name]) * state[name]
            + per_sample(self.churn_noise * variance.sqrt(), state[name]) * noise(field.space)
            for name, field in fields.items()
        }
        return noisier, torch.where(inside, later, t)


def _common_process(fields: Fields) -> GaussianProcess:
    processes = {field.process for field in fields.values()}
    process = processes.pop()
    if processes or not isinstance(process, GaussianProcess):
        raise ValueError("churn needs one Gaussian process that all fields share; use the sampler with churn 0")
    return process


def _space(field: Field) -> Manifold:
    assert isinstance(field.space, Manifold)
    return field.space


def _flow(field: Field) -> Flow:
    assert isinstance(field.process, Flow)
    return field.process


def _velocities(fields: Fields, state: State, data: State, t: Tensor) -> State:
    return {name: _flow(field).velocity(_space(field), state[name], data[name], t) for name, field in fields.items()}


def _moved(fields: Fields, state: State, velocities: State, dt: Tensor) -> State:
    return {
        name: _space(field).exp(state[name], per_sample(dt, velocities[name]) * velocities[name])
        for name, field in fields.items()
    }
