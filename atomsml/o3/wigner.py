"""Wigner D matrices of the real irreps."""

import torch

from atomsml.o3.clebsch_gordan import clebsch_gordan


def wigner_d(degree: int, rotation: torch.Tensor) -> torch.Tensor:
    """The matrix D_l that turns the spherical harmonics of degree l: Y_l(R v) = D_l(R) Y_l(v).

    By D_1 = R and the Clebsch-Gordan series, with C = clebsch_gordan(l - 1, 1, l):

        D_l = (2 l + 1) sum C[i, j, :] D_(l-1)[i, k] R[j, m] C[k, m, :].

    The entries are polynomials of degree l in those of R: no Euler angles, hence no singular rotations, and smooth.
    Shapes (..., 3, 3) -> (..., 2 l + 1, 2 l + 1). R is a rotation; for a rotation with inversion the result is that of
    natural parity (-1)^l, so the matrix of the opposite parity is the caller's det(R) D_l(R).
    Raises ValueError when rotation is not made of 3 x 3 matrices.
    """
    if rotation.shape[-2:] != (3, 3):
        raise ValueError(f"rotation has shape {tuple(rotation.shape)}: give matrices of shape (..., 3, 3)")
    result = torch.ones_like(rotation[..., :1, :1])
    for l in range(1, degree + 1):
        coupling = clebsch_gordan(l - 1, 1, l).to(rotation)
        turned = torch.einsum("ijc,...ik,...jm->...kmc", coupling, result, rotation)
        result = (2 * l + 1) * torch.einsum("...kmc,kmd->...cd", turned, coupling)
    return result
