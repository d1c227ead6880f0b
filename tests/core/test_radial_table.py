"""Tabulated radial functions against scipy's splines, the functions themselves and finite differences."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import interpolate
from torch import Tensor

from atomsml.layers import MLP
from atomsml.radial import bessel_basis, polynomial_envelope
from atomsml.radial_table import RadialTable, tabulate

CUTOFF = 5.0


def _random_table(pieces: int = 20, functions: int = 3, kinds: int = 2) -> RadialTable:
    generator = torch.Generator().manual_seed(0)
    return RadialTable(torch.randn(kinds, pieces + 5, functions, dtype=torch.float64, generator=generator), CUTOFF)


def _network(functions: int) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    mlp = MLP((8, 16, functions)).double()

    def function(r: Tensor) -> Tensor:
        return mlp(bessel_basis(r, CUTOFF, 8) * polynomial_envelope(r, CUTOFF, 5)[:, None])[None]

    return function


def _distances(number: int) -> Tensor:
    return torch.rand(number, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * CUTOFF


def test_basis_equal_to_scipy_splines() -> None:
    table, r = _random_table(), _distances(200)
    knots = np.arange(-5, table.pieces + 6) * table.spacing
    u = interpolate.PPoly(
        np.array([[-1.0], [3.0], [-3.0], [1.0]]) / [[CUTOFF**3], [CUTOFF**2], [CUTOFF], [1]], [0, CUTOFF]
    )
    for kind, coefficients in enumerate(table.coefficients.numpy()):
        spline = interpolate.BSpline(knots, coefficients, 5)
        x = r.numpy()
        values, slopes = table(r, torch.full(r.shape, kind))
        np.testing.assert_allclose(values, u(x)[:, None] * spline(x), rtol=0, atol=1e-13)
        expected = u(x)[:, None] * spline(x, 1) + u(x, 1)[:, None] * spline(x)
        np.testing.assert_allclose(slopes, expected, rtol=0, atol=1e-12)


def test_value_and_slope_consistent() -> None:
    table, r = _random_table(), _distances(50).requires_grad_()
    kind = torch.arange(50) % 2
    values, slopes = table(r, kind)
    for f in range(values.shape[1]):
        (expected,) = torch.autograd.grad(values[:, f].sum(), r, retain_graph=True)
        torch.testing.assert_close(slopes[:, f], expected, rtol=0, atol=1e-12)


def test_quintic_polynomials_are_exact() -> None:
    powers = torch.arange(6, dtype=torch.float64)

    def function(r: Tensor) -> Tensor:
        x = r[:, None] / CUTOFF
        return ((1 - x) ** 3 * x**powers)[None]

    table = tabulate(function, CUTOFF, tolerance=1e-11)
    assert table.pieces == 24
    assert table.value_deviation < 1e-13
