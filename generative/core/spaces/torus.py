"""Periodic coordinates: fractional positions in a crystal, and angles.

Brownian motion on a circle of the circumference L has the wrapped normal density

    p(d; sigma) = sum_k exp(-(d - k L)^2 / (2 sigma^2)) / (sqrt(2 pi) sigma)                          (images)
                = (1 + 2 sum_n exp(-n^2 sigma^2 q^2 / 2) cos(n q d)) / L,    q = 2 pi / L              (series)

(of torsions Jing et al., arXiv:2206.01729; of crystals Jiao et al., arXiv:2309.04475). One of the two is always short:
seven images for sigma < 0.3 L and five terms above leave out less than 1e-16 of the sum.
"""

from __future__ import annotations

import math
from abc import ABC
from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.generative.core.spaces.compact import CompactManifold


class Periodic(CompactManifold, ABC):
    """Coordinates in [0, period), each on a circle of its own; geodesics take the shortest image."""

    period: float

    def noise(self, nodes: int, generator: torch.Generator) -> Tensor:
        return self.period * torch.rand(nodes, *self.shape, generator=generator, dtype=torch.float64)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return _wrapped(x, self.period) * mask.reshape(*mask.shape, *(1 for _ in self.shape))

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return _wrapped(x + v, self.period)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x - self.period * torch.round((y - x) / self.period)

    def diffuse(self, x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Half a period of uniform noise to either side are all quantiles of a normal distribution."""
        level = 2 / self.period * self.log(x, noise)
        below = 1 - torch.finfo(x.dtype).eps
        normal = math.sqrt(2) * torch.erfinv(level.clamp(-below, below))
        return self.exp(x, _per_sample(sigma, x) * normal)

    def heat_score(self, x: Tensor, source: Tensor, sigma: Tensor) -> Tensor:
        return wrapped_normal_score(self.log(source, x), _per_sample(sigma, x), self.period)


@dataclass(frozen=True)
class Torus(Periodic):
    """Fractional coordinates of points in a crystal: three, each of period 1."""

    shape = (3,)
    period = 1.0


@dataclass(frozen=True)
class Circle(Periodic):
    """Angles in radians, for example torsions; `shape` says how many a node has."""

    shape: tuple[int, ...] = ()
    period = 2 * math.pi


def wrapped_normal_score(displacement: Tensor, sigma: Tensor, period: float) -> Tensor:
    """d log p / dd of the wrapped normal, elementwise; |displacement| is at most half a period."""
    narrow = sigma.clamp_max(0.3 * period)
    images = displacement[..., None] - period * torch.arange(-3, 4, dtype=sigma.dtype, device=sigma.device)
    share = torch.softmax(-(images / narrow[..., None]).square() / 2, dim=-1)
    by_images = -(share * images).sum(dim=-1) / narrow.square()
    q = 2 * math.pi / period
    wide = sigma.clamp_min(0.3 * period)
    density, slope = torch.ones_like(displacement), torch.zeros_like(displacement)
    for n in range(1, 6):
        weight = 2 * torch.exp(-(n * q * wide).square() / 2)
        density = density + weight * torch.cos(n * q * displacement)
        slope = slope - weight * n * q * torch.sin(n * q * displacement)
    return torch.where(sigma < 0.3 * period, by_images, slope / density)


def _per_sample(sigma: Tensor, like: Tensor) -> Tensor:
    return sigma.reshape(-1, *(1 for _ in like.shape[1:]))


def _wrapped(x: Tensor, period: float) -> Tensor:
    x = torch.remainder(x, period)
    return torch.where(x == period, 0, x)  # what is minutely negative rounds to the period itself
