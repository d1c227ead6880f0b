"""Processes on manifolds: along geodesics to the noise, and Brownian motion.

| symbol | meaning |
|---|---|
| exp(x, v), log(x, y) | of the space: where v leads from x, and what leads from x to y |
| p_t(x_t given x_0) | how likely x_t is where the data are x_0 |

Both move with the velocity -log(x_t, x_0) / t. The prediction of the data therefore stands for a mean of velocities,
not of points, which a manifold does not add up: it is exp(x_t, E[...]) of what each class says, and the velocity made
of it is the expected one exactly.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import Flow, per_sample
from atomsml.generative.core.spaces.base import Manifold, Space
from atomsml.generative.core.spaces.compact import CompactManifold


class GeodesicFlow(Flow, ABC):
    """A flow from unit noise along geodesics that end in the data."""

    def prior(self, space: Space, noise: SampleNoise) -> Tensor:
        return noise(space)

    def velocity(self, space: Manifold, x_t: Tensor, data: Tensor, t: Tensor) -> Tensor:
        back = space.log(x_t, data)
        return -back / per_sample(t, back)


@dataclass(frozen=True)
class Geodesic(GeodesicFlow):
    """x_t = exp(x_0, t log(x_0, noise)): Riemannian flow matching (Chen & Lipman, arXiv:2302.03660, section 3.2).

    A prediction stands for exp(x_t, E[log(x_t, x_0) given x_t]).
    """

    def interpolate(self, space: Manifold, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        v = space.log(data, noise)
        return space.exp(data, per_sample(t, v) * v)


@dataclass(frozen=True)
class BrownianMotion(GeodesicFlow):
    """x_t is where Brownian motion from x_0 is after the variance sigma^2, sigma = sigma_max t.

    A diffusion with exploding variance (De Bortoli et al., arXiv:2202.02763; of torsions Jing et al., arXiv:2206.01729;
    of frames Yim et al., arXiv:2302.02277), and its probability flow

        velocity = -sigma' sigma score = -log(x_t, x_0) / t        where  x_0 = exp(x_t, sigma^2 score),

    the point that a prediction stands for (`denoised`); score = E[grad log p_t(x_t given x_0) given x_t].

    Args:
        sigma_max: in the unit of the space; so large that the heat is spread evenly, 0.5 periods or 2.5 radians.
    """

    spaces: ClassVar[type] = CompactManifold

    sigma_max: float

    def interpolate(self, space: Manifold, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        assert isinstance(space, CompactManifold)
        return space.diffuse(data, noise, self.sigma_max * t)

    def denoised(self, space: CompactManifold, x_t: Tensor, score: Tensor, t: Tensor) -> Tensor:
        """The data that belong to a score. To train on: score = space.heat_score(x_t, x_0, sigma_max t)."""
        return space.exp(x_t, per_sample((self.sigma_max * t).square(), score) * score)
