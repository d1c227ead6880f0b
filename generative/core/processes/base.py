"""How a field turns from data at t = 0 into noise at t = 1, and back step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.spaces.base import Manifold, Space


class Process(ABC):
    """The corruption of one field, and the step of its reversal that is made from a prediction of the data.

    Times are (samples,): samples need not be equally far. `data` is (samples, nodes, *shape), or what the process
    reads as a prediction of it: of categories, their probabilities.
    """

    spaces: ClassVar[type]  # of space: where it is defined

    @abstractmethod
    def prior(self, space: Space, noise: SampleNoise) -> Tensor:
        """(samples, nodes, *shape) at t = 1."""

    @abstractmethod
    def corrupt(self, space: Space, data: Tensor, t: Tensor, noise: SampleNoise) -> Tensor:
        """A draw from q(x_t | x_0)."""

    @abstractmethod
    def step(self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise) -> Tensor:
        """From t to s < t by one step of first order; draws from the noise only where categories jump."""


class Flow(Process, ABC):
    """A process that moves along lines: x_t is a function of the data and of one draw of noise, with a velocity."""

    spaces: ClassVar[type] = Manifold

    @abstractmethod
    def interpolate(self, space: Manifold, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t on the line between the data and unit noise, which training may have paired with it."""

    @abstractmethod
    def velocity(self, space: Manifold, x_t: Tensor, data: Tensor, t: Tensor) -> Tensor:
        """d x_t / dt of the line through x_t that comes from the data."""

    def corrupt(self, space: Space, data: Tensor, t: Tensor, noise: SampleNoise) -> Tensor:
        assert isinstance(space, Manifold)
        return self.interpolate(space, data, noise(space), t)

    def step(self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise) -> Tensor:
        assert isinstance(space, Manifold)
        return space.exp(x_t, per_sample(s - t, x_t) * self.velocity(space, x_t, data, t))


class StochasticFlow(Flow, ABC):
    """A flow on whose way fresh noise may be added, and taken away again, without any effect on the marginals."""

    @abstractmethod
    def random_step(
        self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise, scale: float
    ) -> Tensor:
        """From t to s < t by one step of the reverse stochastic equation, whose noise is multiplied by `scale`.

        dx = (velocity - g^2 score / 2) dt + scale g dw, with time that falls (Song et al., arXiv:2011.13456, appendix
        D.1): exact for scale = 1. Less noise gives samples nearer to the modes, with less variety.
        """


def per_sample(t: Tensor, like: Tensor) -> Tensor:
    """(samples,) values as (samples, 1, ...), to be multiplied with a state."""
    return t.reshape(-1, *(1 for _ in like.shape[1:]))
