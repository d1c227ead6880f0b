"""Stochastic steps as long as a tolerance allows (Jolicoeur-Martineau et al., arXiv:2105.14080, algorithm 1).

    x'  = x - h drift(x, t) + g(t) w                                  Euler-Maruyama, w ~ N(0, h)
    x~  = x - h drift(x', t - h) + g(t - h) w
    x'' = (x' + x~) / 2                                               stochastic improved Euler
    E   = | (x' - x'') / max(atol, rtol |x'|, rtol |x'_before|) | / sqrt(n)

A step is taken, to x'', where E <= 1; then and otherwise h <- min(t, safety h E^-power). The drift of the reverse
equation, f x - g^2 score, is written as velocity - g^2 score / 2, which is also right for other g than the one of f.
Every sample has its own t and h.

Unlike there, the noise of a rejected step is not drawn again but divided by a Brownian bridge: whether a step is
rejected depends on its noise, so that fresh noise would change the distribution, of small molecules by much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atomsml.generative.core.fields import Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import per_sample
from atomsml.generative.core.processes.gaussian import GaussianProcess
from atomsml.generative.core.samplers.base import Sampler, gaussian, project
from atomsml.generative.core.samplers.ddim import DDIM
from atomsml.generative.core.spaces.base import VectorSpace


@dataclass(frozen=True)
class Adaptive(Sampler):
    """Two predictions for every step that is tried; of the times, only the first and the last matter.

    The equation is solved until sigma / alpha = `end` in all fields, where the score is still bounded; the rest is one
    deterministic step.

    Raises:
        ValueError: a prediction is not finite.
    """

    allowed: ClassVar[type] = GaussianProcess

    rtol: float = 0.02
    atol: float = 0.01  # in units of the data
    first_step: float = 0.01
    safety: float = 0.9
    power: float = 0.9
    end: float = 0.002

    def run(self, predict: Predict, fields: Fields, state: State, times: Tensor, noise: SampleNoise) -> Iterator[State]:
        ends = [gaussian(field).time_of_ratio(times.new_tensor(self.end)) for field in fields.values()]
        end = torch.stack([*ends, times[-1]]).max()
        left = (times[0] - end).repeat(len(noise))  # exactly zero after a step of this length
        h = left.clamp(max=self.first_step)
        before, path = state, BrownianPath(state)
        while bool((active := h > 0).any()):
            w = path.draw(h, {name: noise(field.space, active) for name, field in fields.items()})
            low, high = _trial(predict, fields, state, end + left, h, w)
            error = self._error(fields, low, high, before, noise)
            if not bool(error.isfinite().all()):
                raise ValueError("the prediction of the data is not finite; the model cannot be sampled from")
            taken = active & (error <= 1)
            state = _where(taken, project(fields, high, noise), state)
            before = _where(taken, low, before)
            path.advance(taken, h, w)
            left = torch.where(taken, left - h, left)
            h = torch.minimum(left, self.safety * h * error.clamp(min=1e-6) ** -self.power)
            yield state
        if times[-1] < end:
            t, s = (time.expand(len(noise)) for time in (end, times[-1]))
            yield project(fields, DDIM().step(predict, fields, state, t, s, noise, 1), noise)

    def _error(self, fields: Fields, low: State, high: State, before: State, noise: SampleNoise) -> Tensor:
        """(samples,) E, over all fields."""
        total, count = torch.zeros_like(noise.mask[:, 0], dtype=noise.dtype), 0
        for name in fields:
            scale = torch.maximum(low[name].abs(), before[name].abs())
            difference = (low[name] - high[name]) / (self.rtol * scale).clamp(min=self.atol)
            total = total + difference.square().flatten(1).sum(dim=1)
            count += low[name][0, 0].numel()
        return (total / (count * noise.mask.sum(dim=1)).clamp(min=1)).sqrt()


class BrownianPath:
    """What is known of the Brownian motion ahead: its increment over some length, in every sample."""

    def __init__(self, state: State) -> None:
        self.increment = {name: torch.zeros_like(x) for name, x in state.items()}
        x = next(iter(state.values()))
        self.length = x.new_zeros(len(x))

    def draw(self, h: Tensor, z: State) -> State:
        """The increment over h, made of standard normal z: beyond what is known, or a bridge within it."""
        known = self.length
        share = torch.where(h < known, h / known, 1)
        std = torch.where(h < known, h * (1 - share), h - known).sqrt()
        return {
            name: per_sample(share, z[name]) * w + per_sample(std, z[name]) * z[name]
            for name, w in self.increment.items()
        }

    def advance(self, taken: Tensor, h: Tensor, w: State) -> None:
        """Past the steps w of length h where they were taken; elsewhere they are remembered."""
        inside = h < self.length
        rest = {
            name: torch.where(per_sample(inside, w[name]), old - w[name], 0) for name, old in self.increment.items()
        }
        kept = _where(inside, self.increment, w)
        self.increment = _where(taken, rest, kept)
        self.length = torch.where(taken, (self.length - h).clamp(min=0), torch.maximum(self.length, h))


def _trial(predict: Predict, fields: Fields, state: State, t: Tensor, h: Tensor, w: State) -> tuple[State, State]:
    """x' and x'' at t - h."""
    low = euler_maruyama(fields, state, state, predict(state, t), t, h, w)
    other = euler_maruyama(fields, state, low, predict(low, t - h), t - h, h, w)
    return low, {name: (low[name] + other[name]) / 2 for name in fields}


def euler_maruyama(fields: Fields, start: State, at: State, data: State, t: Tensor, h: Tensor, w: State) -> State:
    """A step of length h from `start`, with the coefficients of `at` and t."""
    ends = {}
    for name, field in fields.items():
        process, x = gaussian(field), at[name]
        assert isinstance(field.space, VectorSpace)
        diffusion = process.diffusion(t)
        minus_score = process.noise(x, data[name], t) / per_sample(process.sigma(t), x)
        drift = process.velocity(field.space, x, data[name], t) + per_sample(diffusion / 2, x) * minus_score
        ends[name] = start[name] - per_sample(h, x) * drift + per_sample(diffusion.sqrt(), x) * w[name]
    return ends


def _where(chosen: Tensor, new: State, old: State) -> State:
    return {name: torch.where(per_sample(chosen, old[name]), new[name], old[name]) for name in old}
