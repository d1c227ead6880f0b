"""Quadratures on the sphere against Lebedev rules of scipy, Gaunt coefficients and grids of e3nn."""

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from e3nn.o3 import FromS2Grid, ToS2Grid
from scipy.integrate import lebedev_rule

from atomsml.o3 import clebsch_gordan, spherical_harmonics
from atomsml.o3.s2_grid import Components, S2Grid, all_components, product_grid


def gaunt(l1: int, l2: int, l3: int) -> torch.Tensor:
    """Mean of Y_a Y_b Y_c: the coupling, scaled by its value at the pole, where only m = 0 is not zero."""
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        return torch.zeros(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1, dtype=torch.float64)
    coupling = clebsch_gordan(l1, l2, l3)
    return coupling * coupling[l1, l2, l3] * ((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1)) ** 0.5


def truncated(lmax: int, mmax: int) -> Components:
    return tuple((l, m) for l, m in all_components(lmax) if abs(m) <= mmax)


def test_layout_of_the_spherical_harmonics() -> None:
    assert [l * l + l + m for l, m in all_components(5)] == list(range(36))


@pytest.mark.parametrize("lmax", range(6))
@pytest.mark.parametrize("factors", [1, 2, 3])
def test_there_and_back_is_the_identity(lmax: int, factors: int) -> None:
    for components in (all_components(lmax), truncated(lmax, 1), ((lmax, 0),)):
        grid = product_grid(components, factors)
        identity = torch.eye(len(components), dtype=torch.float64)
        torch.testing.assert_close(grid.from_grid @ grid.to_grid, identity, rtol=0, atol=1e-13)
        assert abs(grid.weights.sum() - 1) < 1e-14


@pytest.mark.parametrize("lmax", range(5))
def test_products_of_two_are_gaunt_coefficients(lmax: int) -> None:
    grid = product_grid(all_components(lmax), factors=2)
    found = torch.einsum("pa,pb,cp->abc", grid.to_grid, grid.to_grid, grid.from_grid)
    for degrees in itertools.product(range(lmax + 1), repeat=3):
        l1, l2, l3 = (slice(l * l, (l + 1) ** 2) for l in degrees)
        torch.testing.assert_close(found[l1, l2, l3], gaunt(*degrees), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("lmax", "mmax", "factors"), [(2, 2, 3), (3, 1, 3), (3, 2, 2), (4, 1, 2), (2, 0, 4)])
def test_products_of_more_and_truncated_orders(lmax: int, mmax: int, factors: int) -> None:
    """Against a Lebedev rule, which knows neither latitudes nor longitudes."""
    components = truncated(lmax, mmax)
    points, weights = lebedev_rule(17 if (factors + 1) * lmax <= 17 else 31)
    directions = torch.from_numpy(points.T.copy())
    rows = [l * l + l + m for l, m in components]
    harmonics = spherical_harmonics(lmax, directions)[:, rows]
    grid = product_grid(components, factors)
    expected, found = torch.from_numpy(weights / weights.sum())[:, None] * harmonics, grid.from_grid.T
    for _ in range(factors):
        expected = expected[:, None] * harmonics.view(len(harmonics), -1, *[1] * (expected.ndim - 1))
        found = found[:, None] * grid.to_grid.view(len(found), -1, *[1] * (found.ndim - 1))
    torch.testing.assert_close(found.sum(0), expected.sum(0), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("lmax", "factors"), [(1, 1), (2, 2), (3, 2), (3, 3)])
def test_number_of_points(lmax: int, factors: int) -> None:
    """2 n - 1 >= (factors + 1) lmax for n latitudes, and not for n - 1; (factors + 1) mmax + 1 longitudes."""
    for mmax in range(lmax + 1):
        grid = product_grid(truncated(lmax, mmax), factors)
        assert 2 * grid.latitudes - 1 >= (factors + 1) * lmax > 2 * (grid.latitudes - 1) - 1
        assert grid.longitudes == (factors + 1) * mmax + 1
        assert grid.points.shape == (grid.latitudes * grid.longitudes, 3)


def test_the_polar_axis_is_y() -> None:
    grid = product_grid(((0, 0), (1, 0)), factors=1)
    torch.testing.assert_close(grid.to_grid[:, 1], 3**0.5 * grid.points[:, 1])
    torch.testing.assert_close(grid.points.norm(dim=1), torch.ones(len(grid.points), dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 2, 7, 18])
def test_equiangular_latitudes_integrate_polynomials_below_their_number(n: int) -> None:
    grid = S2Grid(((0, 0),), latitudes=n, longitudes=3, rule="equiangular")
    y, weights = grid.points[::3, 1], 3 * grid.weights[::3]
    angles = torch.arange(n, dtype=torch.float64) * torch.pi / n + torch.pi / (2 * n)
    torch.testing.assert_close(y, angles.cos(), rtol=0, atol=1e-15)
    for power in range(n):
        mean = 0 if power % 2 else 1 / (power + 1)
        assert abs((weights * y**power).sum() - mean) < 1e-15


@pytest.fixture
def double_by_default() -> Iterator[None]:
    """e3nn makes its weights in the default type, whatever `dtype` says."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_by_default")
@pytest.mark.parametrize(("lmax", "latitudes", "longitudes"), [(2, 6, 7), (3, 18, 17), (4, 14, 14), (6, 14, 15)])
@pytest.mark.parametrize("normalization", ["integral", "component"])
def test_equiangular_grids_are_those_of_e3nn(lmax: int, latitudes: int, longitudes: int, normalization: str) -> None:
    scales = {
        "integral": (1 / math.sqrt(4 * math.pi),) * (lmax + 1),
        "component": tuple(1 / math.sqrt((lmax + 1) * (2 * l + 1)) for l in range(lmax + 1)),
    }[normalization]
    grid = S2Grid(all_components(lmax), latitudes, longitudes, "equiangular", to_scales=scales)
    to_grid = ToS2Grid(lmax, (latitudes, longitudes), normalization, dtype=torch.float64)
    from_grid = FromS2Grid((latitudes, longitudes), lmax, normalization, dtype=torch.float64)
    torch.testing.assert_close(grid.points, to_grid.grid.reshape(-1, 3), rtol=0, atol=1e-14)
    expected = torch.einsum("mbi,am->bai", to_grid.shb, to_grid.sha).flatten(0, 1)
    torch.testing.assert_close(grid.to_grid, expected, rtol=0, atol=1e-13)
    expected = torch.einsum("mbi,am->iba", from_grid.shb, from_grid.sha).flatten(1)
    torch.testing.assert_close(grid.from_grid, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("rule", ["gauss-legendre", "equiangular"])
def test_scales_of_degrees(rule: Literal["gauss-legendre", "equiangular"]) -> None:
    components = truncated(3, 2)
    plain = S2Grid(components, 8, 7, rule)
    scaled = S2Grid(components, 8, 7, rule, to_scales=(1, 2, 3, 4), from_scales=(5, 6, 7, 8))
    degrees = torch.tensor([l for l, _ in components], dtype=torch.float64)
    torch.testing.assert_close(scaled.to_grid, plain.to_grid * (1 + degrees))
    torch.testing.assert_close(scaled.from_grid, plain.from_grid * (5 + degrees)[:, None])
    back = S2Grid(components, 8, 7, rule, to_scales=(1, 2, 3, 4))
    torch.testing.assert_close(back.from_grid @ back.to_grid, torch.eye(len(components), dtype=torch.float64))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="factors is 0"):
        product_grid(all_components(1), factors=0)
    with pytest.raises(ValueError, match="got 3 and 0"):
        S2Grid(all_components(1), 3, 0)
    with pytest.raises(ValueError, match=r"one for each degree l = 0 ... 1"):
        S2Grid(all_components(1), 4, 3, from_scales=(1,))
    for components in (((1, 2),), ((1, 0), (1, 0))):
        with pytest.raises(ValueError, match="different pairs"):
            S2Grid(components, 4, 3)
