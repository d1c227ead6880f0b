"""Positions of next atoms: the density against scipy, its integral, its turning with the axes, and exact draws."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import sph_harm_y

from atomsml.generative.molecules.symphony.distribution import (
    DirectionDistribution,
    DistanceDistribution,
    PositionDistribution,
    bounded,
    choose,
    curvatures,
)
from atomsml.generative.molecules.symphony.network import CURVATURE, LATITUDES
from atomsml.o3 import spherical_harmonics, wigner_d
from atomsml.o3.s2_grid import S2Grid, all_components

LMAX = 3
COMPONENTS = (LMAX + 1) ** 2


def distances(n: int, seed: int = 0) -> DistanceDistribution:
    rng = torch.Generator().manual_seed(seed)
    weights, centres, widths = torch.randn(3, n, 4, generator=rng, dtype=torch.float64)
    return DistanceDistribution(torch.log_softmax(weights, 1), 0.3 + 0.2 * centres, 0.01 + 0.05 * widths.abs())


def coefficients(n: int, size: float, seed: int = 0) -> torch.Tensor:
    return size * torch.randn(n, 3, COMPONENTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform_stream(seed: int):
    rng = np.random.default_rng(seed)
    return lambda rows, count: torch.from_numpy(rng.random((len(rows), count)))


def reference_exponents(a: np.ndarray, polar: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """log sum_c exp f_c by scipy's complex harmonics: the polar axis is y, azimuths count from z to x."""
    total = 0.0
    for l in range(LMAX + 1):
        for m in range(-l, l + 1):
            y = sph_harm_y(l, abs(m), polar, azimuth) * (-1) ** m * math.sqrt(4 * math.pi)
            real = y.real if m == 0 else math.sqrt(2) * (y.real if m > 0 else y.imag)
            total = total + a[:, l * l + l + m, None, None] * real
    return np.logaddexp.reduce(total, axis=0)


def unit(polar: float, azimuth: float) -> np.ndarray:
    return np.array([math.sin(polar) * math.sin(azimuth), math.cos(polar), math.sin(polar) * math.cos(azimuth)])


def repeated(p: DistanceDistribution, n: int) -> DistanceDistribution:
    return DistanceDistribution(*(table.expand(n, -1) for table in (p.log_weights, p.centres, p.widths)))


def test_the_density_is_that_of_a_small_reference():
    a, radial = coefficients(1, 0.8), distances(1)
    p = PositionDistribution(radial, lambda r: DirectionDistribution(a, 24))
    polar, azimuth = np.linspace(0, math.pi, 401), np.linspace(0, 2 * math.pi, 200, endpoint=False)
    values = np.exp(reference_exponents(a[0].numpy(), polar[:, None], azimuth)) * np.sin(polar)[:, None]
    z = integrate.simpson(values.mean(axis=1), x=polar) * 2 * math.pi
    for r, polar, azimuth in ((1.1, 0.3, 2.0), (1.5, 2.2, -1.0)):
        rows = zip(*(t[0].tolist() for t in (radial.log_weights, radial.centres, radial.widths)), strict=True)
        mixture = sum(math.exp(w) * stats.lognorm(s, scale=math.exp(mu)).pdf(r) for w, mu, s in rows)
        exponent = reference_exponents(a[0].numpy(), np.array([[polar]]), np.array([[azimuth]])).item()
        wanted = math.log(mixture) + exponent - math.log(z) - 2 * math.log(r)
        found = p.log_prob(torch.from_numpy(r * unit(polar, azimuth))[None]).item()
        assert found == pytest.approx(wanted, abs=1e-6)  # Simpson's rule: 1e-8


def test_it_integrates_to_one():
    """Over a sphere it is p(r), by Lebedev's points, though directions depend on r; and p(r) is 1 by Simpson's rule."""
    a, radial = coefficients(1, 0.8), distances(1, seed=1)
    points, weights = integrate.lebedev_rule(53)
    x = torch.from_numpy(points.T.copy())
    p = PositionDistribution(
        repeated(radial, len(x)), lambda r: DirectionDistribution(a * torch.sin(3 * r)[:, None, None], 20)
    )
    for radius in (0.8, 1.3, 2.1):
        shell = float((p.log_prob(radius * x).exp().numpy() * weights).sum()) * radius**2
        one = torch.tensor([radius], dtype=torch.float64)
        assert shell == pytest.approx(float(radial.log_prob(one).exp()), rel=1e-6)
    r = np.linspace(0.2, 6.0, 4001)
    density = repeated(radial, len(r)).log_prob(torch.from_numpy(r)).exp().numpy()
    assert integrate.simpson(density, x=r) == pytest.approx(1, abs=1e-6)


def test_it_turns_with_its_coefficients():
    rotation = torch.from_numpy(np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0])
    rotation *= torch.linalg.det(rotation)
    a = bounded(coefficients(5, 20), CURVATURE)
    turned = torch.block_diag(*[wigner_d(l, rotation) for l in range(LMAX + 1)])
    u = torch.nn.functional.normalize(
        torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )
    before = DirectionDistribution(a, 2 * LATITUDES).log_prob(u)
    after = DirectionDistribution(a @ turned.T, 2 * LATITUDES).log_prob(u @ rotation.T)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-8)  # a grid as fine as this one has errors below 1e-9


def test_the_grid_is_fine_enough_for_what_the_network_may_say():
    """The sharpest peaks, one alone and many; doubling the grid changes log Z by less than 1e-3."""
    zonal = torch.zeros(40, 1, COMPONENTS, dtype=torch.float64)
    zonal[:, 0, 1:4] = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for a in (1e4 * zonal, coefficients(40, 1e4), coefficients(40, 10)):
        a = bounded(a, CURVATURE)
        coarse, fine = (DirectionDistribution(a, n).log_normaliser() for n in (LATITUDES, 2 * LATITUDES))
        assert (coarse - fine).abs().max() < 1e-3


def test_curvatures_bound_second_derivatives_along_great_circles():
    rng = torch.Generator().manual_seed(0)
    a = coefficients(1, 1.0)[0, :1]
    frames = torch.linalg.qr(torch.randn(4000, 3, 3, generator=rng, dtype=torch.float64))[0]
    h = 1e-3
    angles = torch.tensor([-h, 0.0, h], dtype=torch.float64)
    u = frames[:, 0, None] * torch.cos(angles)[:, None] + frames[:, 1, None] * torch.sin(angles)[:, None]
    f = spherical_harmonics(LMAX, u) @ a[0]
    second = (f[:, 0] - 2 * f[:, 1] + f[:, 2]) / h**2
    most = curvatures(a)[0].item()
    assert second.abs().max() < most
    alone = torch.zeros(1, COMPONENTS, dtype=torch.float64)
    alone[0, 2] = 5.0  # l = 1, m = 0: 5 sqrt(3) cos, whose second derivative at the pole is the bound itself
    assert curvatures(alone)[0].item() == pytest.approx(5 * math.sqrt(3), abs=1e-4)  # 1e-12 is added to squares
    assert (curvatures(bounded(1e6 * a, 50.0)) < 50.0 + 1e-6).all()


def test_distances_are_drawn_from_their_density():
    radial, n = distances(1), 4000
    drawn = repeated(radial, n).sample(uniform_stream(0), torch.arange(n)).numpy()
    grid = np.linspace(0.3, 6, 20001)
    density = repeated(radial, len(grid)).log_prob(torch.from_numpy(grid)).exp().numpy()
    cumulative = integrate.cumulative_trapezoid(density, grid, initial=0)
    assert stats.kstest(drawn, lambda x: np.interp(x, grid, cumulative)).pvalue > 1e-3


def test_directions_are_drawn_from_their_density():
    """Counts in the octants of turned axes against the density on a much finer grid."""
    n = 3000
    a = bounded(coefficients(1, 6, seed=4), 60.0)
    drawn = DirectionDistribution(a.expand(n, -1, -1), 8).sample(uniform_stream(1), torch.arange(n))
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-12)
    grid = S2Grid(all_components(LMAX), 60, 119)
    axes = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]

    def octants(u: torch.Tensor) -> torch.Tensor:
        return ((u @ axes > 0) * torch.tensor([1, 2, 4])).sum(dim=1)

    density = torch.exp(torch.logsumexp(a[0] @ grid.to_grid.T, dim=0)) * grid.weights
    wanted = torch.bincount(octants(grid.points), density / density.sum(), minlength=8).numpy() * n
    found = torch.bincount(octants(drawn), minlength=8).numpy()
    seldom = wanted < 5
    assert found[seldom].sum() <= wanted[seldom].sum() + 10
    # the edges of octants cut cells of the fine grid: its sums are right to 1 in 60
    assert ((found - wanted)[~seldom] ** 2 <= 16 * wanted[~seldom] + (wanted[~seldom] / 60) ** 2).all()


def test_no_choice_of_weight_zero_is_made():
    weights = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]])
    assert choose(weights, torch.tensor([0.0, 1 - 1e-9, 0.5])).tolist() == [1, 0, 2]
