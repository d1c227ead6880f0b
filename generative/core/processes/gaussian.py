"""Processes that scale the data and add normal noise: x_t = alpha(t) x_0 + sigma(t) noise.

Everything a sampler needs follows from alpha and sigma (Kingma et al., arXiv:2107.00630):

    q(x_t | x_s)      = N(a x_s, v)                      a = alpha_t / alpha_s,   v = sigma_t^2 - a^2 sigma_s^2
    q(x_s | x_t, x_0) = N((a sigma_s^2 x_t + alpha_s v x_0) / sigma_t^2,  v sigma_s^2 / sigma_t^2)        s < t
    noise             = (x_t - alpha x_0) / sigma
    velocity          = alpha' x_0 + sigma' noise        alpha' = d alpha / dt
    score             = -noise / sigma

The posterior is exact where alpha_t = 0, pure noise, and where sigma_s = 0, pure data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import StochasticFlow, per_sample
from atomsml.generative.core.spaces.base import Manifold, Space, VectorSpace


class GaussianProcess(StochasticFlow, ABC):
    """alpha falls, sigma / alpha rises strictly; both are functions of t of any shape."""

    spaces: ClassVar[type] = VectorSpace

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def alpha_rate(self, t: Tensor) -> Tensor:
        """d alpha / dt."""

    @abstractmethod
    def sigma_rate(self, t: Tensor) -> Tensor:
        """d sigma / dt."""

    @abstractmethod
    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha has this value; a value out of range gives the nearest end."""

    def diffusion(self, t: Tensor) -> Tensor:
        """g^2 of dx = f x dt + g dw with f = alpha' / alpha: g^2 = 2 sigma sigma' - 2 f sigma^2.

        (Salimans & Ho, arXiv:2202.00512, section 2.)
        """
        sigma = self.sigma(t)
        return 2 * sigma * (self.sigma_rate(t) - self.alpha_rate(t) / self.alpha(t) * sigma)

    def prior(self, space: Space, noise: SampleNoise) -> Tensor:
        x = noise(space)
        return per_sample(self.sigma(x.new_ones(len(x))), x) * x

    def interpolate(self, space: Manifold, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return per_sample(self.alpha(t), data) * data + per_sample(self.sigma(t), data) * noise

    def noise(self, x_t: Tensor, data: Tensor, t: Tensor) -> Tensor:
        """What was added to the data."""
        return (x_t - per_sample(self.alpha(t), x_t) * data) / per_sample(self.sigma(t), x_t)

    def velocity(self, space: Manifold, x_t: Tensor, data: Tensor, t: Tensor) -> Tensor:
        noise = self.noise(x_t, data, t)
        return per_sample(self.alpha_rate(t), x_t) * data + per_sample(self.sigma_rate(t), x_t) * noise

    def deterministic(self, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s with the same noise as x_t."""
        noise = self.noise(x_t, data, t)
        return per_sample(self.alpha(s), x_t) * data + per_sample(self.sigma(s), x_t) * noise

    def random_step(
        self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise, scale: float
    ) -> Tensor:
        assert isinstance(space, VectorSpace)
        diffusion = self.diffusion(t)  # g^2
        minus_score = self.noise(x_t, data, t) / per_sample(self.sigma(t), x_t)
        drift = self.velocity(space, x_t, data, t) + per_sample(diffusion / 2, x_t) * minus_score
        spread = scale * ((t - s) * diffusion).sqrt()
        return x_t - per_sample(t - s, x_t) * drift + per_sample(spread, x_t) * noise(space)

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(scale, variance) of q(x_t | x_s)."""
        scale = self.alpha(t) / self.alpha(s)
        variance = self.sigma(t).square() - (scale * self.sigma(s)).square()
        return scale, variance.clamp(min=0)  # rounding

    def posterior(self, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, as x_t, and standard deviation (samples,) of q(x_s | x_t, x_0)."""
        scale, variance = self.transition(s, t)
        var_s, var_t = self.sigma(s).square(), self.sigma(t).square()
        mean = per_sample(scale * var_s / var_t, x_t) * x_t + per_sample(self.alpha(s) * variance / var_t, x_t) * data
        return mean, (variance * var_s / var_t).sqrt()


@dataclass(frozen=True)
class LinearInterpolant(GaussianProcess):
    """x_t = (1 - t) x_0 + t scale noise: the straight lines of flow matching (Lipman et al., arXiv:2210.02747).

    Also those of rectified flow (Liu et al., arXiv:2209.03003) and of one stochastic interpolant (Albergo and
    Vanden-Eijnden, arXiv:2209.15571). All three regress the velocity noise - x_0, with time the other way round.
    """

    noise_scale: float = 1.0

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return self.noise_scale * t

    def alpha_rate(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.noise_scale)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return 1 / (1 + self.noise_scale / ratio)  # 1 where the ratio is infinite

    def diffusion(self, t: Tensor) -> Tensor:
        """2 sigma sigma': alpha' / alpha has no limit at t = 1, and every g leads to the same marginals.

        (Albergo et al., arXiv:2303.08797, section 2.2: the diffusion of an interpolant is free.)
        """
        return 2 * self.sigma(t) * self.sigma_rate(t)


@dataclass(frozen=True)
class PolynomialVP(GaussianProcess):
    """alpha^2 = (1 - 2 s) (1 - t^2)^2 + s, sigma^2 = 1 - alpha^2: the schedule of equivariant diffusion.

    (Hoogeboom et al., arXiv:2203.17003, appendix B.) Its authors tabulate it at T = 1000 steps and keep the ratio of
    successive alpha^2 above 0.001; of all steps that touches t = 1 alone, where it turns 1.0000e-5 into 1.0004e-5.
    Here alpha^2 is a function of continuous t without that limit.
    """

    precision: float = 1e-5  # s: alpha^2 at t = 1, and sigma^2 at t = 0

    def alpha(self, t: Tensor) -> Tensor:
        return ((1 - 2 * self.precision) * (1 - t.square()).square() + self.precision).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        left = t.square() * (2 - t.square())  # 1 - (1 - t^2)^2 without cancellation at small t
        return ((1 - 2 * self.precision) * left + self.precision).sqrt()

    def alpha_rate(self, t: Tensor) -> Tensor:
        return -self._half_rate(t) / self.alpha(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        return self._half_rate(t) / self.sigma(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        alpha_squared = 1 / (1 + ratio.square())
        polynomial = ((alpha_squared - self.precision) / (1 - 2 * self.precision)).clamp(0, 1)
        return (1 - polynomial.sqrt()).clamp(min=0).sqrt()

    def _half_rate(self, t: Tensor) -> Tensor:
        """d sigma^2 / dt / 2."""
        return (1 - 2 * self.precision) * 2 * t * (1 - t.square())


@dataclass(frozen=True)
class LinearVP(GaussianProcess):
    """alpha = exp(-B / 2), sigma^2 = 1 - exp(-B), B = beta_min t + (beta_max - beta_min) t^2 / 2.

    The variance is preserved, of the equation dx = -beta / 2 x dt + sqrt(beta) dw with beta = dB / dt, which is linear
    (Ho et al., arXiv:2006.11239, in continuous time by Song et al., arXiv:2011.13456, appendix C); the places of
    FrameDiff, in 10 Angstrom, move by it (Yim et al., arXiv:2302.02277, appendix I.1).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self._integral(t) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self._integral(t))).sqrt()

    def alpha_rate(self, t: Tensor) -> Tensor:
        return -self._beta(t) / 2 * self.alpha(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        return self._beta(t) / 2 * self.alpha(t).square() / self.sigma(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        integral = torch.log1p(ratio.square()).clamp(max=self.beta_min + slope / 2)
        root = (self.beta_min**2 + 2 * slope * integral).sqrt()
        return 2 * integral / (root + self.beta_min)  # of the two forms the one without cancellation at small ratios

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_min * t + (self.beta_max - self.beta_min) / 2 * t.square()


@dataclass(frozen=True)
class Karras(GaussianProcess):
    """x_t = x_0 + sigma_max t noise (Karras et al., arXiv:2206.00364): the signal keeps its size, of order 0.5.

    Time is proportional to sigma, as in that paper; steps must be those of `times`.
    """

    sigma_min: float = 0.002  # of the last state before data
    sigma_max: float = 80.0
    rho: float = 7.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * t

    def alpha_rate(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma_max)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return (ratio / self.sigma_max).clamp(max=1)

    def times(self, steps: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        """(steps + 1,) sigma^(1/rho) falls in equal steps to sigma_min, then 0; divided by sigma_max."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma = torch.linspace(high, low, steps, dtype=dtype, device=device) ** self.rho
        return torch.cat([sigma / sigma[0], sigma.new_zeros(1)])
