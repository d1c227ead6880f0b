"""Where a field lives: the noise it starts from and, where there are any, its straight lines."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Space(ABC):
    """The values of one node of one field. A state is (samples, nodes, *shape); what belongs to no node is zero."""

    shape: tuple[int, ...]  # of one node

    @abstractmethod
    def noise(self, nodes: int, generator: torch.Generator) -> Tensor:
        """(nodes, *shape) draws from the unit prior for all the nodes of one sample, on the CPU and in float64."""

    @abstractmethod
    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """The point of the space that belongs to x; `mask` (samples, nodes) marks the nodes, the rest becomes zero."""


class Manifold(Space, ABC):
    """A space with geodesics: exp(x, s log(x, y)) leads from x at s = 0 to y at s = 1."""

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where one arrives from x with the velocity v after one unit of time."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity that leads from x to y in one unit of time."""

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """(samples, nodes) lengths of the geodesics."""
        v = self.log(x, y)
        return v.reshape(*v.shape[:2], -1).norm(dim=2)


class VectorSpace(Manifold, ABC):
    """A manifold whose geodesics are straight lines."""

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x
