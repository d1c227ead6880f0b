"""Tabulated radial functions against scipy's splines, the functions themselves and their own derivatives."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import interpolate
from torch import Tensor

from atomsml.nn.linear import MLP
from atomsml.radial.bases import bessel_basis, polynomial_envelope
from atomsml.radial.table import RadialTable, SplineGrid, tabulate

CUTOFF = 5.0
GRID = SplineGrid(CUTOFF, (64,))


def _random_table() -> RadialTable:
    generator = torch.Generator().manual_seed(0)
    return RadialTable(torch.randn(2, 25, 3, dtype=torch.float64, generator=generator), SplineGrid(CUTOFF, (20,)))


def _network() -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    mlps = [MLP((4, 8, 3)).double() for _ in range(2)]

    def function(r: Tensor) -> Tensor:
        basis = bessel_basis(r, CUTOFF, 4) * polynomial_envelope(r, CUTOFF, 5)[:, None]
        return torch.stack([mlp(basis) for mlp in mlps])

    return function


def _distances(number: int) -> Tensor:
    return torch.rand(number, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * CUTOFF


def test_equal_to_scipy_splines() -> None:
    table, r = _random_table(), _distances(200)
    knots = np.arange(-5, 26) / 20
    x = r.numpy() / CUTOFF
    s, slope_of_s, u, slope_of_u = (
        f[:, None]
        for f in (1.5 * x / (x + 0.5), 0.75 / (x + 0.5) ** 2 / CUTOFF, (1 - x) ** 3, -3 / CUTOFF * (1 - x) ** 2)
    )
    for kind, coefficients in enumerate(table.coefficients.numpy()):
        spline = interpolate.BSpline(knots, coefficients, 5)
        values, slopes = table(r, torch.full(r.shape, kind))
        np.testing.assert_allclose(values, u * spline(s[:, 0]), rtol=0, atol=1e-13)
        expected = u * slope_of_s * spline(s[:, 0], 1) + slope_of_u * spline(s[:, 0])
        np.testing.assert_allclose(slopes, expected, rtol=0, atol=1e-12)


def test_slopes_are_the_derivatives_of_values() -> None:
    table, r = _random_table(), _distances(50).requires_grad_()
    values, slopes = table(r, torch.arange(50) % 2)
    for value, slope in zip(values.T, slopes.T, strict=True):
        (expected,) = torch.autograd.grad(value.sum(), r, retain_graph=True)
        torch.testing.assert_close(slope, expected, rtol=0, atol=1e-12)


def test_value_slope_and_curvature_vanish_at_the_cutoff() -> None:
    table = _random_table()
    distance = torch.tensor([1e-2, 1e-3], dtype=torch.float64)
    values, slopes = table(CUTOFF - distance, torch.zeros(2, dtype=torch.int64))
    orders = torch.log10(values[0] / values[1]), torch.log10(slopes[0] / slopes[1])
    torch.testing.assert_close(orders[0], torch.full((3,), 3.0, dtype=torch.float64), rtol=0, atol=0.1)
    torch.testing.assert_close(orders[1], torch.full((3,), 2.0, dtype=torch.float64), rtol=0, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_weight_from_the_cutoff_on_and_none_missing_at_zero(dtype: torch.dtype) -> None:
    grid = SplineGrid(4.7, (33,))
    cutoff = torch.tensor(4.7, dtype=dtype)
    below = torch.nextafter(cutoff, torch.zeros_like(cutoff))
    piece, weights, slopes = grid.basis(torch.stack([cutoff, cutoff * 1e6, below, 0 * cutoff, 1e-30 * cutoff]))
    assert piece.tolist() == [32, 32, 32, 0, 0]
    assert not weights[:2].any()
    assert not slopes[:2].any()
    torch.testing.assert_close(weights[3:].sum(dim=1), torch.ones(2, dtype=dtype))  # u(0) = 1 and B-splines add up to 1
    torch.testing.assert_close(slopes[3:].sum(dim=1), torch.full((2,), -3 / 4.7, dtype=dtype), rtol=1e-5, atol=0)


def test_quintic_polynomials_of_the_position_are_exact() -> None:
    powers = torch.arange(6, dtype=torch.float64)

    def function(r: Tensor) -> Tensor:
        x = r[:, None] / CUTOFF
        return ((1 - x) ** 3 * (x / (x + 0.5)) ** powers)[None]

    table = tabulate(function, GRID, tolerance=1e-12)
    assert table.grid.pieces == (64,)


def test_errors_fall_with_the_sixth_power_of_the_spacing() -> None:
    def function(r: Tensor) -> Tensor:
        return (polynomial_envelope(r, CUTOFF, 5) * torch.exp(torch.sin(r)))[None, :, None]

    coarse, fine = (tabulate(function, SplineGrid(CUTOFF, (pieces,)), tolerance=1.0) for pieces in (96, 192))
    assert coarse.value_deviation / fine.value_deviation == pytest.approx(2**6, rel=0.15)
    assert coarse.slope_deviation / fine.slope_deviation == pytest.approx(2**5, rel=0.15)


def test_networks_within_the_tolerance_everywhere() -> None:
    function = _network()
    table = tabulate(function, GRID, tolerance=1e-7)
    r = torch.linspace(0.4, CUTOFF, 5000, dtype=torch.float64)
    exact = torch.autograd.functional.jvp(function, r, torch.ones_like(r))
    for kind in range(2):
        ours = table(r, torch.full(r.shape, kind))
        for a, b, deviation in zip(exact, ours, (table.value_deviation, table.slope_deviation), strict=True):
            assert deviation <= 1e-7
            # looked for at other points, largest values are found to some percent
            assert (a[kind] - b).abs().max() <= 1.1 * deviation * a.abs().max()


def test_no_finer_than_needed() -> None:
    (pieces,) = tabulate(_network(), GRID, tolerance=1e-7).grid.pieces
    fewer = SplineGrid(CUTOFF, (int(0.8 * pieces),))
    assert tabulate(_network(), fewer, tolerance=1.0).slope_deviation > 1e-7


def test_combinations_of_functions_by_combining_coefficients() -> None:
    function = _network()
    matrix = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    table = tabulate(function, GRID, tolerance=1.0)
    combined = tabulate(lambda r: function(r) @ matrix, GRID, tolerance=1.0)
    mine, r = replace(table, coefficients=table.coefficients @ matrix), _distances(50)
    for a, b in zip(mine(r, torch.arange(50) % 2), combined(r, torch.arange(50) % 2), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_error_for_functions_that_are_not_smooth() -> None:
    def kink(r: Tensor) -> Tensor:
        return ((1 - r / CUTOFF) ** 3 * (r - 2).abs())[None, :, None]

    with pytest.raises(ValueError, match=r"not smooth enough for a table, ask for exact predictions"):
        tabulate(kink, GRID, tolerance=1e-6)
    with pytest.raises(ValueError, match="differ by nan"):
        tabulate(lambda r: (r - 2).sqrt()[None, :, None], GRID, tolerance=1e-6)


def _with_break(r: Tensor) -> Tensor:
    """Its second derivative jumps at 4.5 A; with its slope it vanishes at the cutoff."""
    inner = (CUTOFF - r) ** 2
    bent = torch.where(r < 4.5, inner, inner * (1 + (r - 4.5) ** 2))
    return torch.stack([bent * torch.exp(torch.sin(r)), torch.sin(bent)], dim=1)[None]


def test_a_second_derivative_may_jump_at_a_break() -> None:
    grid = SplineGrid.even(CUTOFF, 64, breaks=(0.3, 4.5), power=2)
    table = tabulate(_with_break, grid, tolerance=1e-8)
    assert sum(table.grid.pieces) < 200
    with pytest.raises(ValueError, match="not smooth enough"):
        tabulate(_with_break, SplineGrid(CUTOFF, (1000,), power=2), tolerance=1e-8)
    first, second = (x[0] for x in table(torch.tensor([4.5 - 1e-12], dtype=torch.float64), torch.zeros(1).long()))
    for before, after in zip((first, second), table(torch.tensor([4.5]).double(), torch.zeros(1).long()), strict=True):
        torch.testing.assert_close(before, after[0], rtol=0, atol=1e-10)  # second derivatives are about ten
