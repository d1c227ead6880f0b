"""Vectors, and positions whose centre is the origin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.generative.core.spaces.base import VectorSpace


@dataclass(frozen=True)
class Euclidean(VectorSpace):
    """Vectors of any shape with standard normal noise: one-hot vectors, charges, lattices."""

    shape: tuple[int, ...]

    def noise(self, nodes: int, generator: torch.Generator) -> Tensor:
        return torch.randn(nodes, *self.shape, generator=generator, dtype=torch.float64)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask.reshape(*mask.shape, *(1 for _ in self.shape))


@dataclass(frozen=True)
class CenteredPositions(VectorSpace):
    """Points in three dimensions whose mean over the nodes of a sample is zero: 3 (nodes - 1) free coordinates.

    Distributions that are invariant to translations cannot be normalised; on this subspace they can
    (Köhler et al., arXiv:2006.02425; Hoogeboom et al., arXiv:2203.17003, section 3.1). Its standard normal noise is
    that of all coordinates, projected.
    """

    shape = (3,)

    def noise(self, nodes: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(nodes, 3, generator=generator, dtype=torch.float64)
        return x - x.mean(dim=0)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        weights = mask[:, :, None].to(x.dtype)
        mean = (x * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True).clamp(min=1)
        return (x - mean) * weights
