"""Trainable splines against scipy's."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from atomsml.radial.bases import polynomial_envelope
from atomsml.radial.spline import BOND, cubic_b_spline, spline_basis

CUTOFF, NUM, POWER = 4.5, 12, 5
INTERVALS = NUM - 3
SPACING = CUTOFF / INTERVALS


def coefficients(functions: int = 5) -> torch.Tensor:
    return torch.randn(NUM, functions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def distances() -> torch.Tensor:
    """Random ones, and all knots inside the cutoff, where pieces meet."""
    random = 0.1 + torch.rand(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * (CUTOFF - 0.1)
    return torch.cat([random, torch.arange(1, INTERVALS, dtype=torch.float64) * SPACING])


def derivatives(values: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
    """Values, first and second derivatives of a function of each x."""
    (first,) = torch.autograd.grad(values.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return [values.detach(), first.detach(), second]


def test_bump_is_the_cardinal_spline():
    x = torch.linspace(-3, 3, 121, dtype=torch.float64, requires_grad=True)  # its integers are where pieces meet
    bump = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    for order, found in enumerate(derivatives(cubic_b_spline(x), x)):
        expected = np.nan_to_num(bump.derivative(order)(x.detach()) if order else bump(x.detach()))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_functions_and_their_derivatives_are_those_of_a_spline_under_the_envelope():
    knots = np.arange(-3, INTERVALS + 4) * SPACING
    r = distances().requires_grad_()
    spline = BSpline(knots, coefficients(1)[:, 0].numpy(), 3)
    s, s1, s2 = (torch.from_numpy(spline(r.detach(), nu=order)) for order in range(3))
    u, u1, u2 = derivatives(polynomial_envelope(r, CUTOFF, POWER) * CUTOFF / r, r)
    expected = [s * u, s1 * u + s * u1, s2 * u + 2 * s1 * u1 + s * u2]
    found = derivatives(spline_basis(r, CUTOFF, NUM, POWER) @ coefficients(1)[:, 0], r)
    scale = BOND * float(np.sqrt(315 / 151))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, scale * theirs, rtol=1e-11, atol=1e-11)


def test_four_functions_reach_any_distance():
    basis = spline_basis(distances()[:200], CUTOFF, NUM, POWER)
    assert ((basis != 0).sum(dim=1) == 4).all()


def test_beyond_the_cutoff_there_is_nothing():
    r = torch.tensor([CUTOFF, CUTOFF + 1e-3, 2 * CUTOFF], dtype=torch.float64, requires_grad=True)
    for part in derivatives(spline_basis(r, CUTOFF, NUM, POWER) @ coefficients(), r):
        assert part.abs().max() == 0


def test_unit_variance_where_bonds_are():
    """But for the envelope and for where between two knots a bond is; the amplitude there falls like 1 / r."""
    r = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000 * CUTOFF
    amplitude = polynomial_envelope(r, CUTOFF, POWER) * (BOND * CUTOFF / r)
    basis = spline_basis(r, CUTOFF, NUM, POWER) / amplitude[:, None]
    assert basis.square().sum(dim=1).mean().item() == pytest.approx(1, abs=1e-6)


def test_too_few_functions_are_refused():
    with pytest.raises(ValueError, match="at least 4 basis functions"):
        spline_basis(torch.ones(1), CUTOFF, 3, POWER)
