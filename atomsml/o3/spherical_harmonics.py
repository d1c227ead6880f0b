"""Real spherical harmonics."""

from math import comb, sqrt

import torch


def spherical_harmonics(lmax: int, vectors: torch.Tensor) -> torch.Tensor:
    """The real spherical harmonics of degree 0 to lmax of the directions of vectors.

    Shapes (..., 3) -> (..., (lmax + 1)^2); degree l and order m stand at index l*l + l + m. Component normalisation:
    sum_m Y_lm^2 = 2 l + 1. Axes and signs are those of e3nn: the polar axis is y and Y_1 = sqrt(3) (x, y, z).

    With (x, y, z) the unit vector, Y_lm is Q_lm(y) Re (z + i x)^m for m >= 0 and Q_l|m|(y) Im (z + i x)^|m| for m < 0:
    polynomials, so that derivatives of any order are exact and finite, at the poles too. A zero vector has no
    direction: what it yields above l = 0 is finite, its derivatives too, but means nothing.
    """
    # rows of one component each: the arithmetic below runs over contiguous memory
    rows = vectors.movedim(-1, 0).contiguous()
    squared = rows.square().sum(dim=0)
    x, y, z = (rows * torch.where(squared > 0, squared, 1.0).rsqrt()).unbind(0)
    columns = [y] * (lmax + 1) ** 2  # each is replaced below
    cosine, sine = z, x  # real and imaginary part of (z + i x)^m
    for m in range(lmax + 1):
        if m > 1:
            cosine, sine = z * cosine - x * sine, z * sine + x * cosine
        for l, polar in enumerate(_polar_polynomials(m, lmax, y), start=m):
            columns[l * l + l + m] = polar * cosine if m > 0 else polar
            if m > 0:
                columns[l * l + l - m] = polar * sine
    return torch.stack(columns, dim=-1)


def _polar_polynomials(m: int, lmax: int, y: torch.Tensor) -> list[torch.Tensor]:
    """Q_lm(y) for l = m ... lmax: normalised associated Legendre functions without their factor (1 - y^2)^(m/2).

    By the recursion in l of S. A. Holmes and W. E. Featherstone, J. Geod. 76, 279 (2002), eqs. 11 to 13.
    """
    sectoral = sqrt(2 * (2 * m + 1) * comb(2 * m, m) / 4**m) if m > 0 else 1.0
    polynomials = [torch.full_like(y, sectoral)]
    for l in range(m + 1, lmax + 1):
        following = sqrt((4 * l * l - 1) / (l * l - m * m)) * y * polynomials[-1]
        if l > m + 1:
            weight = sqrt((2 * l + 1) * ((l - 1) ** 2 - m * m) / ((2 * l - 3) * (l * l - m * m)))
            following = following - weight * polynomials[-2]
        polynomials.append(following)
    return polynomials
