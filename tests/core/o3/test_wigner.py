"""Wigner D matrices against e3nn and the transformation of the spherical harmonics."""

import pytest
import torch
from e3nn import o3

from atomsml.o3 import spherical_harmonics, wigner_d

DEGREES = range(9)


@pytest.mark.parametrize("degree", DEGREES)
def test_equal_to_e3nn(degree: int, rotations: torch.Tensor) -> None:
    generic = rotations[:5]  # the Euler angles of e3nn are singular at some of the others
    expected = o3.Irrep(degree, 1).D_from_matrix(generic)
    # e3nn exponentiates generators in single precision; the next test is the sharp one
    torch.testing.assert_close(wigner_d(degree, generic), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("parity", [1, -1])
def test_turns_the_spherical_harmonics(
    degree: int, parity: int, rotations: torch.Tensor, directions: torch.Tensor
) -> None:
    rotation = parity * rotations.unsqueeze(1)  # parity -1: with inversion
    turned = spherical_harmonics(degree, (rotation @ directions.unsqueeze(-1)).squeeze(-1))[..., degree**2 :]
    harmonics = spherical_harmonics(degree, directions)[:, degree**2 :]
    expected = (wigner_d(degree, rotation) @ harmonics.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", DEGREES)
def test_a_representation(degree: int, rotations: torch.Tensor) -> None:
    matrices = wigner_d(degree, rotations)
    product = wigner_d(degree, rotations[0] @ rotations)
    torch.testing.assert_close(matrices[0] @ matrices, product, rtol=0, atol=1e-13)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(2 * degree + 1).expand_as(matrices).double())


def test_smooth_at_the_identity() -> None:
    rotation = torch.eye(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: wigner_d(4, r), rotation)


def test_shapes(rotations: torch.Tensor) -> None:
    assert wigner_d(2, rotations[0].float()).shape == (5, 5)
    assert wigner_d(3, rotations[:0]).shape == (0, 7, 7)
    with pytest.raises(ValueError, match=r"give matrices of shape \(..., 3, 3\)"):
        wigner_d(1, torch.zeros(3, 4))
