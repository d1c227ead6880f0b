"""Processes on categories: each keeps its value with the probability 1 - t, or is undecided, or a random one.

Data are predicted as probabilities p(x_0 given x_t). A step draws from

    q(x_s given x_t) = sum over x_0 of p(x_0 given x_t) q(x_s given x_t, x_0)

(Austin et al., arXiv:2107.03006), which is exact for one node whatever the length of the step; the nodes of
a sample are drawn independently, so a joint distribution needs several steps. As the steps get short this is the
continuous-time chain of Campbell et al., arXiv:2402.04997, without added stochasticity.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import Process, per_sample
from atomsml.generative.core.spaces.base import Space
from atomsml.generative.core.spaces.categorical import Categorical


class CategoricalProcess(Process, ABC):
    """x_t is the data with the probability 1 - t, and otherwise noise."""

    spaces: ClassVar[type] = Categorical

    def corrupt(self, space: Space, data: Tensor, t: Tensor, noise: SampleNoise) -> Tensor:
        lost = noise.uniform() < per_sample(t, data)
        return space.project(torch.where(lost, self.prior(space, noise), data), noise.mask)


@dataclass(frozen=True)
class Masking(CategoricalProcess):
    """Noise is the extra value `categories`, not decided yet; what is decided stays (Austin et al., appendix A.2.2).

    From t to s each undecided node is decided with the probability 1 - s / t.
    """

    def prior(self, space: Space, noise: SampleNoise) -> Tensor:
        assert isinstance(space, Categorical)
        return torch.where(noise.mask, space.categories, 0)

    def step(self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise) -> Tensor:
        assert isinstance(space, Categorical)
        decided = noise.uniform() >= per_sample(s / t, x_t)
        drawn = draw(data, noise.uniform())
        return torch.where((x_t == space.categories) & decided, drawn, x_t)


@dataclass(frozen=True)
class Uniform(CategoricalProcess):
    """Noise is any of the categories (Hoogeboom et al., arXiv:2102.05379; Austin et al., appendix A.2.1).

    With K categories and a = (1 - t) / (1 - s), q(x_t given x_s) = a [x_t = x_s] + (1 - a) / K, so that

        q(x_s given x_t) ~ (a [x_s = x_t] + (1 - a) / K) ((1 - s) w(x_s) + s / K sum w),
        w(x_0) = p(x_0 given x_t) / ((1 - t) [x_0 = x_t] + t / K)
    """

    def prior(self, space: Space, noise: SampleNoise) -> Tensor:
        return noise(space)

    def step(self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise) -> Tensor:
        assert isinstance(space, Categorical)
        same = one_hot(x_t, space.categories).to(data.dtype)
        t, s = per_sample(t, data), per_sample(s, data)
        keep = (1 - t) / (1 - s)
        w = data / ((1 - t) * same + t / space.categories)
        came = (1 - s) * w + s / space.categories * w.sum(dim=-1, keepdim=True)
        return draw((keep * same + (1 - keep) / space.categories) * came, noise.uniform())


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """One category (samples, nodes) by a uniform number in [0, 1] for every row of weights.

    The weights (samples, nodes, categories) need not sum to one. One that is zero is never drawn; where all are, as at
    padding, the last category is.
    """
    sums = weights.cumsum(dim=-1)
    # below the total in any rounding, so that the last category is drawn only by its own weight
    level = uniform.clamp_max(1 - torch.finfo(sums.dtype).eps).to(sums.dtype)[..., None] * sums[..., -1:]
    return (sums <= level).sum(dim=-1).clamp_max(weights.shape[-1] - 1)
