"""The variational bound of equivariant diffusion (Hoogeboom et al., arXiv:2203.17003, sections 3.1 to 3.3).

    -log p(x, h | N) <= KL(q(z_1 | x, h) | p(z_1)) + sum over the steps t = 1/T ... 1 of L_t + L_0^x + L_0^h

    L_t   = 1/2 (SNR(t - 1/T) / SNR(t) - 1) |eps - eps_hat(z_t, t)|^2,    SNR = alpha^2 / sigma^2
    L_0^x = 3 (N - 1) log(sqrt(2 pi) sigma_0 / alpha_0) + 1/2 |eps_x - eps_hat_x(z_0, 0)|^2
    L_0^h = - log p(h | z_0)

Positions have 3 (N - 1) degrees of freedom, because their centre is fixed. An integer h is read from a noisy u by the
mass that N(u, w^2) has between h - 1/2 and h + 1/2; a one-hot vector by that between 1/2 and 3/2 of each of its
entries, in proportion. The schedule is computed in float64: sigma^2 is small at t = 0, alpha^2 at t = 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import log_ndtr

from atomsml.generative.core.fields import State
from atomsml.generative.core.processes.gaussian import GaussianProcess


def step_weight(process: GaussianProcess, s: Tensor, t: Tensor) -> Tensor:
    """SNR(s) / SNR(t) - 1."""
    return (process.alpha(s) / process.sigma(s) * process.sigma(t) / process.alpha(t)).square() - 1


def divergence_and_normaliser(process: GaussianProcess, data: State, sizes: Tensor) -> Tensor:
    """(samples,) KL(N(alpha_1 [x, h], sigma_1^2) | N(0, 1)) and the first term of L_0^x."""
    one = torch.ones((), dtype=torch.float64)
    alpha, sigma = float(process.alpha(one)), float(process.sigma(one))
    squared = data["positions"].square().sum(dim=(1, 2)) + data["features"].square().sum(dim=(1, 2))
    free = 3 * (sizes - 1).to(squared)
    degrees = free + sizes * data["features"].shape[2]
    divergence = (alpha**2 * squared + (sigma**2 - 1 - 2 * math.log(sigma)) * degrees) / 2
    return divergence + free * math.log(math.sqrt(2 * math.pi) * deviation_at_zero(process))


def deviation_at_zero(process: GaussianProcess) -> float:
    """sigma_0 / alpha_0, the standard deviation of p(x | z_0)."""
    zero = torch.zeros((), dtype=torch.float64)
    return float(process.sigma(zero) / process.alpha(zero))


def log_probability_of_features(
    process: GaussianProcess, features: Tensor, noisy: Tensor, element_scale: float, number_scale: float | None
) -> Tensor:
    """(samples, nodes) log p(h | z_0) of scaled one-hot elements and, in the last column, scaled atomic numbers.

    Without a `number_scale` there are no atomic numbers.
    """
    sigma = float(process.sigma(torch.zeros((), dtype=torch.float64)))
    elements = features.shape[-1] - (number_scale is not None)
    onehot, near = features[..., :elements] / element_scale, noisy[..., :elements] / element_scale
    of_elements = (onehot * torch.log_softmax(log_mass(near - 1, sigma / element_scale), dim=-1)).sum(dim=-1)
    if number_scale is None:
        return of_elements
    return of_elements + log_mass((noisy - features)[..., -1] / number_scale, sigma / number_scale)


def log_mass(offset: Tensor, width: float) -> Tensor:
    """log of the mass of N(offset, width^2) between -1/2 and 1/2, without underflow far away."""
    away = offset.abs()
    upper, lower = log_ndtr((0.5 - away) / width), log_ndtr((-0.5 - away) / width)
    return upper + torch.log1p(-torch.exp(lower - upper))
