"""Gaussian processes against the papers' formulas, automatic differentiation and conditioned normal distributions."""

import numpy as np
import pytest
import torch

from atomsml.generative.core.fields import Field, corrupt
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.gaussian import Karras, LinearInterpolant, LinearVP, PolynomialVP
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean

PROCESSES = {
    "linear": LinearInterpolant(2.0),
    "polynomial": PolynomialVP(),
    "linear-vp": LinearVP(),
    "karras": Karras(),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def test_polynomial_is_the_table_of_edm():
    """Hoogeboom et al., appendix B: ratios of successive alpha^2 above 0.001, then (1 - 2 s) alpha^2 + s; T = 1000."""
    squared = (1 - (np.arange(1001) / 1000) ** 2) ** 2
    ratios = np.clip(squared[1:] / squared[:-1], 0.001, 1)
    table = (1 - 2e-5) * np.concatenate([[1], np.cumprod(ratios)]) + 1e-5
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    alpha, sigma = PolynomialVP().alpha(t).numpy(), PolynomialVP().sigma(t).numpy()
    np.testing.assert_allclose(alpha[:-1] ** 2, table[:-1], rtol=1e-9)
    np.testing.assert_allclose(alpha[-1] ** 2, table[-1], rtol=5e-4)  # the ratio is cut there
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-14)


def test_polynomial_noise_is_precise_in_single_precision():
    t = torch.linspace(0, 1, 1001)
    exact = PolynomialVP().sigma(t.double())
    assert ((PolynomialVP().sigma(t) / exact - 1).abs() < 1e-6).all()


def test_karras_times_are_equation_5():
    i = np.arange(18)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    times = Karras().times(18, torch.float64)
    np.testing.assert_allclose(Karras().sigma(times).numpy(), np.append(expected, 0), rtol=1e-12)


@each_process
def test_rates_are_derivatives(process):
    t = torch.linspace(0.01, 0.99, 30, dtype=torch.float64, requires_grad=True)
    for value, rate in ((process.alpha, process.alpha_rate), (process.sigma, process.sigma_rate)):
        derivative = torch.zeros_like(t)
        if value(t).requires_grad:
            (derivative,) = torch.autograd.grad(value(t).sum(), t)
        torch.testing.assert_close(rate(t).detach(), derivative, rtol=1e-10, atol=1e-12)


@each_process
def test_time_of_ratio_inverts_and_stays_in_range(process):
    t = torch.linspace(0.01, 0.99, 30, dtype=torch.float64)
    torch.testing.assert_close(process.time_of_ratio(process.sigma(t) / process.alpha(t)), t, rtol=1e-9, atol=0)
    ends = process.time_of_ratio(torch.tensor([1e-9, 1e9], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("process", [PolynomialVP(), Karras()], ids=["polynomial", "karras"])
def test_diffusion_keeps_the_marginals(process):
    """The variance of dx = f x dt + g dw obeys d sigma^2 / dt = 2 f sigma^2 + g^2, with f = d log alpha / dt."""
    t = torch.linspace(0.01, 0.99, 30, dtype=torch.float64, requires_grad=True)
    variance = process.sigma(t).square()
    (rate,) = torch.autograd.grad(variance.sum(), t)
    alpha = process.alpha(t)
    f = torch.autograd.grad(alpha.log().sum(), t)[0] if alpha.requires_grad else 0
    torch.testing.assert_close(process.diffusion(t).detach(), (rate - 2 * f * variance).detach())


@each_process
@pytest.mark.parametrize(("s", "t"), [(0.0, 0.1), (0.2, 0.6), (0.899, 0.9), (0.7, 1.0), (0.0, 1.0)])
def test_posterior_is_the_conditional_of_the_joint(process, s, t):
    """x_s = alpha_s x_0 + sigma_s e, x_t = a x_s + more noise: condition (x_s, x_t) on x_t by the textbook formula."""
    s, t = (torch.tensor([u], dtype=torch.float64) for u in (s, t))
    alpha_s, alpha_t, sigma_s, sigma_t = (float(v) for v in (*map(process.alpha, (s, t)), *map(process.sigma, (s, t))))
    x_0, x_t = 0.8, 1.7
    covariance = alpha_t / alpha_s * sigma_s**2
    mean = alpha_s * x_0 + covariance / sigma_t**2 * (x_t - alpha_t * x_0)
    variance = sigma_s**2 - covariance**2 / sigma_t**2
    got, std = process.posterior(
        torch.full((1, 1, 1), x_t, dtype=s.dtype), torch.full((1, 1, 1), x_0, dtype=s.dtype), t, s
    )
    assert float(got) == pytest.approx(mean, rel=1e-9)
    assert float(std) ** 2 == pytest.approx(variance, rel=1e-6, abs=1e-12)
    assert bool(std.isfinite())


@each_process
def test_corruption_has_the_moments_of_the_process(process):
    """Mean alpha x_0 and, on centred positions of n atoms, the covariance sigma^2 (1 - 1/n) of every coordinate."""
    fields = {"x": Field(CenteredPositions(), process)}
    noise = SampleNoise(range(2000), [4] * 2000, 5, torch.float64)
    shape = torch.tensor([[1.0, 0, 0], [0, 2, 0], [-1, 0, 1], [0, -2, -1], [0, 0, 0]], dtype=torch.float64)
    t = torch.full((2000,), 0.3, dtype=torch.float64)
    x = corrupt(fields, {"x": shape.expand(2000, 5, 3)}, t, noise)["x"]
    alpha, variance = float(process.alpha(t)[0]), float(process.sigma(t)[0] ** 2) * 3 / 4
    np.testing.assert_allclose(x.mean(0), alpha * shape, atol=5 * (variance / 2000) ** 0.5)
    np.testing.assert_allclose(x[:, :4].var(0), variance, rtol=5 * (2 / 2000) ** 0.5)
    assert x[:, 4].eq(0).all()


def test_a_field_refuses_a_space_without_its_process():
    with pytest.raises(ValueError, match="Karras is not defined on Categorical; give it a VectorSpace"):
        Field(Categorical(4), Karras())
    Field(Euclidean((4,)), Karras())
