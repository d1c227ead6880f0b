"""Processes on manifolds: along geodesics to the noise, and Brownian motion.

| symbol | meaning |
|---|---|
| exp(x, v), log(x, y) | of the space: where v leads from x, and what leads from x to y |
| sigma(t) | how far x_t has gone from the data: the fraction of a geodesic, or the standard deviation of the heat |
| p_t(x_t given x_0) | how likely x_t is where the data are x_0 |

Both move with the velocity -(sigma' / sigma) log(x_t, x_0). The prediction of the data therefore stands for a mean of
velocities, not of points, which a manifold does not add up: it is exp(x_t, E[...]) of what each class says, and the
velocity made of it is the expected one exactly. While the prediction stays, the motion is along one geodesic, of which
sigma(s) / sigma(t) is left at s: a step does that exactly, however long it is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import StochasticFlow, per_sample
from atomsml.generative.core.spaces.base import Manifold, Space
from atomsml.generative.core.spaces.compact import CompactManifold


class GeodesicFlow(StochasticFlow, ABC):
    """A flow from unit noise along geodesics that end in the data; sigma rises strictly, of t of any shape."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma_rate(self, t: Tensor) -> Tensor:
        """d sigma / dt."""

    def prior(self, space: Space, noise: SampleNoise) -> Tensor:
        return noise(space)

    def velocity(self, space: Manifold, x_t: Tensor, data: Tensor, t: Tensor) -> Tensor:
        return -per_sample(self.sigma_rate(t) / self.sigma(t), x_t) * space.log(x_t, data)

    def step(self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise) -> Tensor:
        assert isinstance(space, Manifold)
        return space.exp(x_t, per_sample(1 - self.sigma(s) / self.sigma(t), x_t) * space.log(x_t, data))


@dataclass(frozen=True)
class Geodesic(GeodesicFlow):
    """x_t = exp(x_0, sigma log(x_0, noise)): Riemannian flow matching (Chen & Lipman, arXiv:2302.03660, section 3.2).

    sigma = t or, with a rate c, (e^(c t) - 1) / (e^c - 1), so that sigma' / sigma = c / (1 - e^(-c t)): most of the way
    to the data is made early. That is the schedule with which FrameFlow draws rotations (Yim et al., arXiv:2310.05297,
    section 3.2: kappa = 1 - e^(-c (1 - t)), c = 10), but for the fraction e^(-c) of the way that it leaves at t = 0.

    A prediction stands for exp(x_t, E[log(x_t, x_0) given x_t]).
    """

    rate: float = 0.0

    def sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(self.rate * t) / math.expm1(self.rate) if self.rate else t

    def sigma_rate(self, t: Tensor) -> Tensor:
        return self.rate * torch.exp(self.rate * t) / math.expm1(self.rate) if self.rate else torch.ones_like(t)

    def interpolate(self, space: Manifold, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        v = space.log(data, noise)
        return space.exp(data, per_sample(self.sigma(t), v) * v)

    def random_step(
        self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise, scale: float
    ) -> Tensor:
        """Without noise: it has no score in closed form. Other fields may have theirs all the same."""
        return self.step(space, x_t, data, t, s, noise)


class BrownianMotion(GeodesicFlow, ABC):
    """x_t is where Brownian motion from x_0 is after the variance sigma^2.

    A diffusion with exploding variance (De Bortoli et al., arXiv:2202.02763; of torsions Jing et al., arXiv:2206.01729;
    of frames Yim et al., arXiv:2302.02277), and its probability flow

        velocity = -sigma' sigma score = -(sigma' / sigma) log(x_t, x_0)        where  x_0 = exp(x_t, sigma^2 score),

    the point that a prediction stands for (`denoised`); score = E[grad log p_t(x_t given x_0) given x_t].
    """

    spaces: ClassVar[type] = CompactManifold

    def interpolate(self, space: Manifold, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        assert isinstance(space, CompactManifold)
        return space.diffuse(data, noise, self.sigma(t))

    def denoised(self, space: CompactManifold, x_t: Tensor, score: Tensor, t: Tensor) -> Tensor:
        """The data that belong to a score. To train on: score = space.heat_score(x_t, x_0, sigma(t))."""
        return space.exp(x_t, per_sample(self.sigma(t).square(), score) * score)

    def random_step(
        self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise, scale: float
    ) -> Tensor:
        """exp(x_t, (t - s) g^2 score), then heat of the variance (t - s) g^2 scale^2, with g^2 = 2 sigma sigma'.

        Yim et al., arXiv:2302.02277, algorithm 1, add a normal vector to the drift before the exponential map: the same
        to the order of the step.
        """
        assert isinstance(space, CompactManifold)
        share = 2 * (t - s) * self.sigma_rate(t) / self.sigma(t)  # (t - s) g^2 / sigma^2
        drifted = space.exp(x_t, per_sample(share, x_t) * space.log(x_t, data))
        return space.diffuse(drifted, noise(space), scale * share.sqrt() * self.sigma(t)) if scale > 0 else drifted


@dataclass(frozen=True)
class LinearHeat(BrownianMotion):
    """sigma = sigma_max t.

    Args:
        sigma_max: in the unit of the space; so large that the heat is spread evenly, 0.5 periods or 2.5 radians.
    """

    sigma_max: float

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * t

    def sigma_rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma_max)


@dataclass(frozen=True)
class LogarithmicHeat(BrownianMotion):
    """sigma = log(t e^sigma_max + (1 - t) e^sigma_min): g^2 is large where the heat is still narrow.

    (Of FrameDiff, Yim et al., arXiv:2302.02277, appendix I.1, in radians.) At t = 0 some heat is left, of which a last
    prediction gets rid; at t = 1 the density of rotations is uniform to 32 % (root mean square).
    """

    sigma_min: float = 0.1
    sigma_max: float = 1.5

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min + torch.log1p(t * math.expm1(self.sigma_max - self.sigma_min))

    def sigma_rate(self, t: Tensor) -> Tensor:
        rise = math.expm1(self.sigma_max - self.sigma_min)
        return rise / (1 + t * rise)
