"""The isotropic Gaussian on rotations: its series, the heat equation, random walks, finite differences, quantiles."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.transform import Rotation
from scipy.stats import kstest, maxwell

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.spaces import igso3
from atomsml.generative.core.spaces.so3 import SO3

DECADES = [1e-3, 1e-2, 0.1, 1.0, 10.0]
SIGMAS = [0.02, 0.1, 0.3, 0.7, 0.999999, 1.0, 1.3, 2.0, 4.0]


def series(w, s, terms=2000):
    """Yim et al., Proposition 1, as it stands."""
    degree = np.arange(terms)[:, None]
    weights = (2 * degree + 1) * np.exp(-degree * (degree + 1) * s**2 / 2)
    return (weights * np.sin((degree + 0.5) * w) / np.sin(w / 2)).sum(0)


def density(w, s):
    return igso3.log_density(torch.as_tensor(w, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)).exp()


@pytest.mark.parametrize("s", SIGMAS)
def test_density_is_the_series(s):
    """The series loses what it cancels: its largest term is of the order of f(0)."""
    w = np.linspace(1e-3, math.pi, 400)
    expected = series(w, s)
    assert np.abs(density(w, s).numpy() - expected).max() < 1e-12 * expected.max()


@pytest.mark.parametrize("s", sorted({*SIGMAS, *DECADES}))
def test_density_integrates_to_one(s):
    near = min(math.pi, 12 * s)
    integral, _ = quad(lambda w: density(w, s).item() * (1 - math.cos(w)) / math.pi, 0, near, epsabs=1e-11, limit=200)
    assert abs(integral - 1) < 1e-10


@pytest.mark.parametrize("s", [0.4, 0.9, 1.0, 1.5])
def test_density_obeys_the_heat_equation(s):
    """df / d(s^2) = (1 / 2) sin^-2(w / 2) d/dw (sin^2(w / 2) df/dw), central differences of second order."""
    w, h = np.linspace(0.2, 3.0, 30), 1e-3
    in_time = (density(w, math.sqrt(s**2 + h)) - density(w, math.sqrt(s**2 - h))) / (2 * h)

    def flux(w):
        return np.sin(w / 2) ** 2 * (density(w + h / 2, s) - density(w - h / 2, s)).numpy() / h

    laplacian = (flux(w + h / 2) - flux(w - h / 2)) / h / np.sin(w / 2) ** 2
    scale = density(0.0, s).item() / s**2
    assert np.abs(in_time.numpy() - laplacian / 2).max() < 10 * (h / s**2) ** 2 * scale


@pytest.mark.parametrize("s", sorted({*SIGMAS, *DECADES}))
def test_score_is_the_slope_of_the_log_density(s):
    """Near pi the image on the other side takes over within s^2 / 2 pi: third derivatives are of that order."""
    w, h = torch.linspace(1e-3, math.pi - 1e-3, 200, dtype=torch.float64), 1e-5 * min(s**2, 1)
    sigma = torch.tensor(s, dtype=torch.float64)
    slope = (igso3.log_density(w + h, sigma) - igso3.log_density(w - h, sigma)) / (2 * h)
    rounding = 2.2e-16 * (1 + igso3.log_density(w, sigma).abs().max()) / h
    truncation = h**2 / 6 * (2 * math.pi / s**2) ** 3
    assert (igso3.score_factor(w, sigma) * w - slope).abs().max() < 2 * rounding + truncation


def test_score_at_small_angles():
    """No 0 / 0, and no jump where one formula takes over from another."""
    for s in SIGMAS:
        near = torch.tensor([0.0, 1e-12, 1e-6, 1e-4], dtype=torch.float64)
        factor = igso3.score_factor(near, torch.tensor(s, dtype=torch.float64))
        torch.testing.assert_close(factor, factor[:1].expand(4), rtol=1e-8, atol=0)
    # f ~ exp(-w^2 / 2 s^2) (w / 2) / sin(w / 2) when narrow
    narrow = igso3.score_factor(torch.zeros(1, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64))
    assert abs(narrow.item() - (1 / 12 - 100)) < 1e-11


@pytest.mark.parametrize("s", [0.7, 0.9, 0.999999])
def test_small_angles_lose_no_digit(s):
    """Where the series for small angles takes over, against sin((l + 1/2) w) / sin(w / 2) = 1 + 2 sum_j cos(j w).

    The first term that is left out is w^4 / 30240 < 6e-12.
    """
    w = np.array([1e-5, 1e-3, 1.5e-3, 3e-3, 4e-3, 1e-2, 0.019, 0.021])
    order = np.arange(1, 30)[:, None]
    weights = (2 * order + 1) * np.exp(-order * (order + 1) * s**2 / 2)
    value = 1 + (weights * (1 + 2 * np.cos(order * w).cumsum(axis=0))).sum(axis=0)
    slope = (weights * (-2 * order * np.sin(order * w) / w).cumsum(axis=0)).sum(axis=0)
    found = igso3.score_factor(torch.tensor(w), torch.tensor(s, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), slope / value, rtol=0, atol=6e-12)


def cdf(s):
    """Of the angle, with the integral of each term of the series: sin(l w) / l - sin((l + 1) w) / (l + 1)."""
    degree = np.arange(1, 400)[:, None]
    weights = (2 * degree + 1) * np.exp(-degree * (degree + 1) * s**2 / 2)

    def at(w):
        terms = weights * (np.sin(degree * w) / degree - np.sin((degree + 1) * w) / (degree + 1))
        return (w - np.sin(w) + terms.sum(0)) / math.pi

    return at


@pytest.mark.parametrize("s", [0.05, 0.3, 0.9, 1.0, 2.5])
def test_quantiles(s):
    """Uniform angles become angles of the same level, along the same axis."""
    uniform = torch.linspace(0.05, math.pi, 100, dtype=torch.float64)
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    vectors = igso3.from_uniform((uniform[:, None] * axis)[None], torch.tensor([s], dtype=torch.float64))[0]
    angle = vectors @ axis
    torch.testing.assert_close(vectors, angle[:, None] * axis, rtol=1e-12, atol=0)
    level = (uniform - torch.sin(uniform)).numpy() / math.pi
    assert np.abs(cdf(s)(angle.numpy()) - level).max() < 1e-5


@pytest.mark.parametrize("s", DECADES)
def test_draws_have_its_angles(s):
    """Where it is narrow, angles have Maxwell's distribution to a fraction s^2 / 4."""
    noise = SampleNoise([1, 2], [4000] * 2, 4000, torch.float64)
    source, sigma = noise(SO3()), torch.full((2,), s, dtype=torch.float64)
    angles = SO3().distance(source, SO3().diffuse(source, noise(SO3()), sigma)).flatten().numpy()
    expected = cdf(s) if s > 0.02 else maxwell(scale=s).cdf
    assert kstest(angles, expected).pvalue > 1e-3


@pytest.mark.parametrize("s", DECADES)
def test_mean_square_of_the_score(s):
    """By adaptive quadrature over the angle, whose density is (1 - cos w) f / pi; 3 / s^2 where it is narrow."""
    sigma = torch.tensor(s, dtype=torch.float64)

    def integrand(w):
        slope = igso3.score_factor(torch.tensor(w, dtype=torch.float64), sigma).item() * w
        return slope**2 * density(w, s).item() * (1 - math.cos(w)) / math.pi

    expected, _ = quad(integrand, 0, min(math.pi, 12 * s), epsabs=0, epsrel=1e-9, limit=200)
    found = igso3.mean_square_score(sigma).item()
    assert abs(found / expected - 1) < 1e-5
    if s < 0.02:
        assert abs(found * s**2 / 3 - 1) < s**2


def test_random_walk_ends_in_it():
    """Many small rotations; the step of variance s^2 / steps is normal to order 1 / steps."""
    s, steps, walkers = 0.9, 100, 4000
    rng = np.random.default_rng(4)
    end = Rotation.identity(walkers)
    for _ in range(steps):
        end = end * Rotation.from_rotvec(s / math.sqrt(steps) * rng.normal(size=(walkers, 3)))
    assert kstest(end.magnitude(), cdf(s)).pvalue > 1e-3
    assert kstest(end.magnitude(), cdf(1.1 * s)).pvalue < 1e-3  # the test would notice
