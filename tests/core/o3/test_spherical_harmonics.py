"""Spherical harmonics against e3nn and scipy, and their derivatives."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.special import sph_harm_y

from atomsml.o3 import solid_harmonics, spherical_harmonics

LMAX = 8


def _e3nn(lmax: int, vectors: torch.Tensor) -> torch.Tensor:
    return o3.spherical_harmonics(list(range(lmax + 1)), vectors, True, normalization="component")


# the recursion multiplies some 8 factors up to 4 in size: 1e-13 is a few hundred roundings of float64
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 5e-5)])
def test_equal_to_e3nn(directions: torch.Tensor, dtype: torch.dtype, tolerance: float) -> None:
    values = spherical_harmonics(LMAX, directions.to(dtype))
    assert values.dtype == dtype
    torch.testing.assert_close(values.double(), _e3nn(LMAX, directions), rtol=0, atol=tolerance)


def test_solid_harmonics_are_those_of_e3nn(directions: torch.Tensor) -> None:
    vectors = directions * torch.linspace(0.5, 2.0, len(directions), dtype=torch.float64)[:, None]
    expected = o3.spherical_harmonics(list(range(5)), vectors, False, normalization="component")
    torch.testing.assert_close(solid_harmonics(4, vectors), expected, rtol=1e-12, atol=1e-12)


def test_equal_to_scipy(directions: torch.Tensor) -> None:
    x, y, z = (directions / directions.norm(dim=-1, keepdim=True)).T.numpy()
    polar, azimuth = np.arccos(y), np.arctan2(x, z)
    values = spherical_harmonics(LMAX, directions).numpy()
    for l in range(LMAX + 1):
        for m in range(l + 1):
            # scipy carries the Condon-Shortley phase (-1)^m and the norm 1 over the sphere
            expected = (-1) ** m * np.sqrt(4 * np.pi * (2 if m else 1)) * sph_harm_y(l, m, polar, azimuth)
            # arccos near a pole loses half of the digits
            np.testing.assert_allclose(values[:, l * l + l + m], expected.real, rtol=0, atol=1e-6)
            if m > 0:
                np.testing.assert_allclose(values[:, l * l + l - m], expected.imag, rtol=0, atol=1e-6)


def test_component_normalisation(directions: torch.Tensor) -> None:
    values = spherical_harmonics(LMAX, directions)
    for l in range(LMAX + 1):
        norms = values[:, l * l : (l + 1) ** 2].square().sum(dim=-1)
        torch.testing.assert_close(norms, torch.full_like(norms, 2 * l + 1), rtol=1e-13, atol=0)


def test_gradients_equal_to_e3nn(directions: torch.Tensor) -> None:
    weights = torch.randn((LMAX + 1) ** 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for function in (spherical_harmonics, _e3nn):
        vectors = directions.clone().requires_grad_()
        gradients.append(torch.autograd.grad((function(LMAX, vectors) @ weights).sum(), vectors)[0])
    # relative to 1 / length, the natural size of a gradient of a function of direction
    lengths = directions.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(gradients[0] * lengths, gradients[1] * lengths, rtol=0, atol=1e-11)


def test_second_derivatives_at_the_poles() -> None:
    """The Laplacian on the sphere gives -l (l + 1) Y_l everywhere; polar coordinates would divide by zero here."""
    degrees = torch.arange((LMAX + 1) ** 2).sqrt().floor().double()
    for pole in torch.eye(3, dtype=torch.float64):
        hessians = torch.func.jacrev(torch.func.jacrev(lambda vector: spherical_harmonics(LMAX, vector)))(pole)
        laplacians = hessians.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        expected = -degrees * (degrees + 1) * spherical_harmonics(LMAX, pole)
        torch.testing.assert_close(laplacians, expected, rtol=0, atol=1e-11)


def test_first_and_second_gradients_by_finite_differences(directions: torch.Tensor) -> None:
    vectors = (directions / directions.norm(dim=-1, keepdim=True))[::6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: spherical_harmonics(4, v), vectors)
    assert torch.autograd.gradgradcheck(lambda v: spherical_harmonics(4, v), vectors)


def test_zero_vectors_stay_finite_to_second_order() -> None:
    vectors = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    values = spherical_harmonics(3, vectors)
    (gradient,) = torch.autograd.grad(values.sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), vectors)
    assert torch.equal(values[:, 0], torch.ones(2, dtype=torch.float64))
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize(("lmax", "shape"), [(0, (5,)), (3, (0,)), (2, ()), (1, (2, 4))])
def test_shapes(lmax: int, shape: tuple[int, ...]) -> None:
    vectors = torch.ones(*shape, 3, requires_grad=True)
    values = spherical_harmonics(lmax, vectors)
    assert values.shape == (*shape, (lmax + 1) ** 2)
    assert torch.equal(values[..., 0], torch.ones(shape))
