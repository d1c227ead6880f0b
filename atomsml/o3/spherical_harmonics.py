"""Real spherical harmonics."""

from functools import cache
from math import sqrt

import torch

from atomsml.o3.clebsch_gordan import clebsch_gordan


def spherical_harmonics(lmax: int, vectors: torch.Tensor) -> torch.Tensor:
    """The real spherical harmonics of degree 0 to lmax of the directions of vectors.

    Shapes (..., 3) -> (..., (lmax + 1)^2); degree l and order m stand at index l*l + l + m. Component normalisation:
    sum_m Y_lm^2 = 2 l + 1. Axes and signs are those of e3nn: the polar axis is y and Y_1 = sqrt(3) (x, y, z).

    With the unit vector u, every degree follows from the one below by the coupling with degree 1,

        Y_l = a_l sum_ij C[i, j, :] Y_(l-1)i u_j,    C = clebsch_gordan(l - 1, 1, l),

    so the result is a polynomial in u: its derivatives of any order are exact and finite, at the poles too.
    A zero vector has no direction: it yields 1 for l = 0 and 0 above, and its gradient, though finite, means nothing.
    """
    squared = vectors.square().sum(dim=-1, keepdim=True)
    unit = vectors * torch.where(squared > 0, squared, 1.0).rsqrt()
    degrees = [torch.ones_like(squared)]
    for degree in range(1, lmax + 1):
        products = (degrees[-1].unsqueeze(-1) * unit.unsqueeze(-2)).flatten(-2)
        degrees.append(products @ _raising_matrix(degree, vectors.dtype, vectors.device))
    return torch.cat(degrees, dim=-1)


@cache
def _raising_matrix(degree: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """a_l C as a matrix (3 (2 l - 1), 2 l + 1); a_l from Y_l0 = sqrt(2 l + 1) on the polar axis."""
    # a constant first asked for in inference mode must still serve later gradients
    with torch.inference_mode(False):
        coupling = clebsch_gordan(degree - 1, 1, degree)
        on_axis = sqrt(2 * degree - 1) * coupling[degree - 1, 1, degree]
        return (sqrt(2 * degree + 1) / on_axis * coupling).flatten(0, 1).to(dtype=dtype, device=device)
