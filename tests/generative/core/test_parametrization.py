"""Conversions against automatic differentiation of log p_t of a mixture, whose score is known without any network."""

import itertools
from typing import get_args

import pytest
import torch

from atomsml.generative.core.parametrization import Quantity, convert
from atomsml.generative.core.processes.gaussian import Karras, LinearInterpolant, PolynomialVP
from atomsml.generative.core.spaces.euclidean import Euclidean

PROCESSES = {"linear": LinearInterpolant(2.0), "polynomial": PolynomialVP(), "karras": Karras(sigma_max=5.0)}
MEANS = torch.tensor([[-1.0, 0.5], [0.8, -0.2]], dtype=torch.float64)
VARIANCES = torch.tensor([0.2, 0.05], dtype=torch.float64)


def log_density(x, alpha, sigma):
    """log p_t of two equally likely normal distributions, at x (samples, nodes, 2)."""
    total = alpha[..., None] ** 2 * VARIANCES + sigma[..., None] ** 2  # (samples, 1, 1, 2)
    squared = (x[:, :, None] - alpha[..., None] * MEANS).square().sum(-1)
    total = total[:, :, 0]
    return torch.logsumexp(-squared / (2 * total) - total.log(), -1)


def expectations(process, x, t):
    """Score by differentiation; noise and data by Tweedie's formula; velocity as f x - g^2 score / 2."""
    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()
    alpha, sigma = process.alpha(t)[:, None, None], process.sigma(t)[:, None, None]
    (score,) = torch.autograd.grad(log_density(x, alpha, sigma).sum(), x, retain_graph=True)
    log_alpha, variance = alpha.log().sum(), sigma.square().sum()
    f = torch.autograd.grad(log_alpha, t, retain_graph=True)[0] if log_alpha.requires_grad else torch.zeros_like(t)
    g2 = (torch.autograd.grad(variance, t)[0])[:, None, None] - 2 * f[:, None, None] * sigma**2
    data = (x + sigma**2 * score) / alpha
    velocity = f[:, None, None] * x - g2 * score / 2
    found = {"score": score, "noise": -sigma * score, "data": data, "velocity": velocity}
    return {name: value.detach() for name, value in found.items()}


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize(("source", "target"), list(itertools.product(get_args(Quantity), repeat=2)))
def test_conversions_agree_with_the_score(process, source, target):
    x = torch.randn(5, 7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.tensor([0.02, 0.3, 0.5, 0.8, 0.98], dtype=torch.float64)
    expected = expectations(process, x, t)
    torch.testing.assert_close(
        convert(expected[source], source, target, x, process, t), expected[target], rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_velocity_of_the_process_is_that_of_the_converter(process):
    x, data = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    torch.testing.assert_close(
        process.velocity(Euclidean((2,)), x, data, t), convert(data, "data", "velocity", x, process, t)
    )


def test_pure_noise_and_pure_data_of_the_linear_interpolant():
    """At t = 1 the velocity gives both; at t = 0 too."""
    process = LinearInterpolant(2.0)
    data, noise = torch.randn(2, 2, 3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x = process.interpolate(Euclidean((2,)), data, noise, t)
    velocity = 2 * noise - data
    torch.testing.assert_close(convert(velocity, "velocity", "data", x, process, t), data)
    torch.testing.assert_close(convert(velocity, "velocity", "noise", x, process, t), noise)
