"""Inpainting: some entries of a state are given, a generator makes the rest around them.

A predicted x_0 is replaced, where it is known, by what is known. That is all a sampler needs: the state of the known
entries then follows the exact interpolant from their noise to the known data, or the exact posterior
q(x_s given x_t, x_0) where the sampler is stochastic, and ends in them. The rest sees them as it saw them in training,
at the same noise (Song et al., arXiv:2011.13456, section 5 and appendix I.2: the replacement method).

Positions without a centre have no place or orientation that known atoms could refer to. So the known ones are moved
rigidly, by a proper rotation, onto their predicted places at every step: the shape is held, the pose is free, the
centre of the whole stays where it was, and the result does not depend on where the known atoms stand. `restore` turns
everything back to them at the end.

The distribution of the rest is an approximation of the conditional one: its posterior is taken given the noisy known
entries, where the clean ones say more (Trippe et al., arXiv:2206.04119, section 3), so what is known pulls too weakly.
Of two normal numbers with the correlation 0.8, one of them held at z, the mean of the other comes out as 0.34 z by a
deterministic sampler and 0.47 z by a stochastic one in 25 steps, instead of 0.8 z. `Resampled` mends this: with 4
repeats 0.63 z and 0.70 z, with 16 0.76 z and 0.77 z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from atomsml.generative.core.fields import Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import per_sample
from atomsml.generative.core.processes.gaussian import GaussianProcess
from atomsml.generative.core.rotations import superposition
from atomsml.generative.core.samplers.base import GridSampler, gaussian, project
from atomsml.generative.core.spaces.base import Space
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.core.spaces.euclidean import CenteredPositions


def hold(predict: Predict, fields: Fields, known: State, masks: State) -> Predict:
    """The same prediction with the known data in it.

    Args:
        known: data of the fields that are held, all or in part; zero where not known.
        masks: (samples, nodes) bool for each of them: which nodes are known.
    """

    def held(state: State, t: Tensor) -> State:
        data = dict(predict(state, t))
        for name, values in known.items():
            data[name] = _replaced(fields[name].space, data[name], values, masks[name])
        return data

    return held


def restore(state: State, fields: Fields, known: State, masks: State, nodes: Tensor) -> State:
    """The result of a sampler with the known entries exactly as given.

    Positions without a centre are moved rigidly, all of a sample together, to where the known ones stand.

    Args:
        nodes: (samples, nodes) bool, nodes and not padding.
    """
    state = dict(state)
    for name, values in known.items():
        x = state[name]
        if isinstance(fields[name].space, CenteredPositions):
            rotation, shift = superposition(x, values, masks[name])
            x = (x @ rotation.transpose(1, 2) + shift) * nodes[..., None]
        state[name] = torch.where(_of_nodes(masks[name], x), values, x)
    return state


def _replaced(space: Space, data: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    if isinstance(space, CenteredPositions):
        rotation, shift = superposition(known, data, mask)
        known = known @ rotation.transpose(1, 2) + shift
    elif isinstance(space, Categorical):
        known = one_hot(known, space.categories).to(data.dtype)
    return torch.where(_of_nodes(mask, data), known, data)


def _of_nodes(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(*mask.shape, *(1 for _ in like.shape[2:]))


@dataclass(frozen=True)
class Resampled(GridSampler):
    """Every step of a sampler several times, with noise put back in between (Lugmayr et al., arXiv:2201.09865).

    The known and the other entries then have time to agree at every noise level: the distribution of the rest tends to
    the conditional one with the number of repeats. It costs as many predictions more.
    """

    allowed: ClassVar[type] = GaussianProcess

    sampler: GridSampler
    repeats: int

    def step(
        self, predict: Predict, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        for _ in range(self.repeats - 1):
            ahead = project(fields, self.sampler.step(predict, fields, state, t, s, noise, steps), noise)
            state = _noisier(fields, ahead, s, t, noise)
        return self.sampler.step(predict, fields, state, t, s, noise, steps)


def _noisier(fields: Fields, state: State, s: Tensor, t: Tensor, noise: SampleNoise) -> State:
    """A draw from q(x_t given x_s) of every field, t > s."""
    noisier = {}
    for name, field in fields.items():
        scale, variance = gaussian(field).transition(s, t)
        x = state[name]
        noisier[name] = per_sample(scale, x) * x + per_sample(variance.sqrt(), x) * noise(field.space)
    return noisier
