"""Closed manifolds, where noise is uniform and heat spreads evenly in the end."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from atomsml.generative.core.spaces.base import Manifold


class CompactManifold(Manifold, ABC):
    """A manifold of finite volume whose unit noise is uniform, and to which Brownian motion leads.

    `sigma` is (samples,): after the variance sigma^2, Brownian motion has made a step whose components, in a tangent
    space and as long as they are small, are normal with the standard deviation sigma.
    """

    @abstractmethod
    def diffuse(self, x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Where Brownian motion from x is after sigma^2, drawn by unit noise: it lies along the way to that point."""

    @abstractmethod
    def heat_score(self, x: Tensor, source: Tensor, sigma: Tensor) -> Tensor:
        """The gradient, at x and as a velocity, of the log density of Brownian motion from the source."""
