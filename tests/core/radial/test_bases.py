"""Radial functions against scipy, closed forms and their own smoothness."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import interpolate, stats
from scipy.integrate import quad_vec
from scipy.special import betainc, spherical_jn

from atomsml.radial.bases import (
    CubicSpline,
    agnesi_transform,
    bessel_basis,
    cosine_envelope,
    fade_in,
    gaussian_basis,
    polynomial_envelope,
)

CUTOFF = 5.0
R = torch.linspace(0.05, 4.95, 50, dtype=torch.float64)


def _derivatives(function: Callable[[torch.Tensor], torch.Tensor], r: torch.Tensor, order: int) -> list[torch.Tensor]:
    r = r.clone().requires_grad_()
    result = [function(r)]
    for _ in range(order):
        result.append(torch.autograd.grad(result[-1].sum(), r, create_graph=True)[0])
    return result


def test_bessel_equal_to_scipy() -> None:
    wavenumbers = np.arange(1, 9) * np.pi / CUTOFF
    expected = np.sqrt(2 / CUTOFF) * wavenumbers * spherical_jn(0, wavenumbers * R.numpy()[:, None])
    np.testing.assert_allclose(bessel_basis(R, CUTOFF, 8).numpy(), expected, rtol=0, atol=1e-13)


def test_bessel_orthonormal_inside_the_cutoff() -> None:
    def overlaps(r: float) -> np.ndarray:
        basis = bessel_basis(torch.tensor([r], dtype=torch.float64), CUTOFF, 6).numpy()[0]
        return r**2 * np.outer(basis, basis)

    matrix, _ = quad_vec(overlaps, 1e-12, CUTOFF, epsabs=1e-12)
    np.testing.assert_allclose(matrix, np.eye(6), rtol=0, atol=1e-10)


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_gaussians_are_normal_densities_so_many_spacings_wide(width: float) -> None:
    centres, deviation = np.linspace(0, CUTOFF, 21), 0.25 * width
    densities = stats.norm.pdf(R.numpy()[:, None], loc=centres, scale=deviation) * deviation * np.sqrt(2 * np.pi)
    np.testing.assert_allclose(gaussian_basis(R, CUTOFF, 21, width).numpy(), densities, rtol=1e-12, atol=1e-300)
    with pytest.raises(ValueError, match="give num >= 2"):
        gaussian_basis(R, CUTOFF, 1)


@pytest.mark.parametrize("power", [2, 5, 6])
def test_polynomial_envelope(power: int) -> None:
    x = R.numpy() / CUTOFF
    p = power
    # the equation as printed; its three terms of about p^2 cancel near the cutoff
    printed = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    np.testing.assert_allclose(polynomial_envelope(R, CUTOFF, p).numpy(), printed, rtol=0, atol=1e-13)
    one_cutoff_per_edge = polynomial_envelope(R, torch.full_like(R, CUTOFF), p)
    assert torch.equal(one_cutoff_per_edge, polynomial_envelope(R, CUTOFF, p))
    edge = torch.tensor([0.0, CUTOFF, CUTOFF + 1e-9, 2 * CUTOFF], dtype=torch.float64)
    for order, values in enumerate(_derivatives(lambda r: polynomial_envelope(r, CUTOFF, p), edge, 2)):
        assert torch.equal(values[1:], torch.zeros_like(values[1:]))
        assert order > 0 or values[0].item() == 1.0


def test_polynomial_envelope_never_negative_in_single_precision() -> None:
    near_cutoff = torch.linspace(4.9, 5.0, 1001)
    values = polynomial_envelope(near_cutoff, CUTOFF, 5)
    assert (values >= 0).all()
    assert (values.diff() <= 0).all()


def test_cosine_envelope() -> None:
    ends = torch.tensor([0.0, CUTOFF / 2, CUTOFF, CUTOFF + 0.1], dtype=torch.float64)
    values, slopes = _derivatives(lambda r: cosine_envelope(r, CUTOFF), ends, 1)
    np.testing.assert_allclose(values.detach().numpy(), [1, 0.5, 0, 0], rtol=0, atol=1e-16)
    np.testing.assert_allclose(slopes.detach().numpy(), [0, -np.pi / (2 * CUTOFF), 0, 0], rtol=0, atol=1e-16)


def test_fade_in_is_the_regularised_beta_function() -> None:
    expected = betainc(5, 5, np.minimum(R.numpy() / 1.5, 1))
    np.testing.assert_allclose(fade_in(R, 1.5).numpy(), expected, rtol=0, atol=1e-13)


def test_agnesi_transform() -> None:
    # (r, r0, transformed) of mace-torch 0.3.16 with its default parameters, for pairs H-H, C-C, Si-Fe and W-W
    recorded = torch.tensor(
        [
            [0.1, 0.31, 0.9940544453768511],
            [1.0, 0.76, 0.49564304251604346],
            [2.4, 1.215, 0.3490916706266855],
            [1.5, 1.62, 0.6978658061873474],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(agnesi_transform(recorded[:, 0], recorded[:, 1]), recorded[:, 2], rtol=0, atol=1e-14)
    r = torch.tensor([0.0, 1.2], dtype=torch.float64)
    assert agnesi_transform(r, torch.ones_like(r))[0].item() == 1.0
    # at r = r0 the transform is 1 / (1 + a / 2) whatever p and q
    at_bond = agnesi_transform(r, torch.full_like(r, 1.2), q=0.5, p=3.0, a=2.0)[1]
    assert at_bond.item() == pytest.approx(0.5, abs=1e-15)


def test_spline_equal_to_scipy_with_two_derivatives() -> None:
    grid = np.linspace(0.5, CUTOFF, 12)
    values = np.random.default_rng(5).normal(size=(12, 3))
    spline = CubicSpline(torch.tensor(values), 0.5, CUTOFF)
    reference = interpolate.CubicSpline(grid, values)
    r = torch.cat([R, torch.tensor(grid), torch.tensor([0.3, 5.2], dtype=torch.float64)])  # knots and outside too
    for column in range(3):
        mine = _derivatives(lambda x, column=column: spline(x)[:, column], r, 2)
        for order, value in enumerate(mine):
            expected = reference(r.numpy(), nu=order)[:, column]
            # conditioned by the second differences, about 1e2 for these random values
            np.testing.assert_allclose(value.detach().numpy(), expected, rtol=0, atol=1e-11)


def test_spline_converges_with_the_fourth_power_of_the_spacing() -> None:
    errors = []
    for points in (33, 65):
        grid = torch.linspace(0.5, CUTOFF, points, dtype=torch.float64)
        spline = CubicSpline(bessel_basis(grid, CUTOFF, 4), 0.5, CUTOFF)
        errors.append((spline(R[R > 0.5]) - bessel_basis(R[R > 0.5], CUTOFF, 4)).abs().max().item())
    assert 10 < errors[0] / errors[1] < 25  # 16 in the limit


def test_spline_needs_four_points() -> None:
    with pytest.raises(ValueError, match="give a finer grid"):
        CubicSpline(torch.zeros(3, 2), 0.0, 1.0)


def test_differentiable_twice() -> None:
    r = R[1::7].clone().requires_grad_()
    spline = CubicSpline(torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 0.0, 5.0)
    functions = [
        spline,
        lambda x: bessel_basis(x, CUTOFF, 4),
        lambda x: gaussian_basis(x, CUTOFF, 4),
        lambda x: polynomial_envelope(x, CUTOFF, 5),
        lambda x: cosine_envelope(x, CUTOFF),
        lambda x: fade_in(x, 3.0),
        lambda x: agnesi_transform(x, torch.ones_like(x)),
    ]
    for function in functions:
        assert torch.autograd.gradcheck(function, r)
        assert torch.autograd.gradgradcheck(function, r)


def test_no_edges() -> None:
    r = torch.zeros(0)
    assert bessel_basis(r, CUTOFF, 8).shape == (0, 8)
    assert gaussian_basis(r, CUTOFF, 8).shape == (0, 8)
    assert polynomial_envelope(r, CUTOFF, 5).shape == (0,)
    assert cosine_envelope(r, CUTOFF).shape == (0,)
    assert agnesi_transform(r, r).shape == (0,)
    assert CubicSpline(torch.zeros(4, 2), 0.0, 1.0)(r).shape == (0, 2)
