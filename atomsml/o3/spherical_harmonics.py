"""Real spherical harmonics."""

from functools import lru_cache
from math import comb, sqrt
from typing import Any

import torch

from atomsml.o3.clebsch_gordan import clebsch_gordan


def spherical_harmonics(lmax: int, vectors: torch.Tensor) -> torch.Tensor:
    """The real spherical harmonics of degree 0 to lmax of the directions of vectors.

        >>> import torch
        >>> from atomsml.o3 import spherical_harmonics
        >>> spherical_harmonics(1, torch.tensor([0.0, 2.0, 0.0])).square().sum()  # 1 + 3, whatever the direction
        tensor(4.)

    Shapes (..., 3) -> (..., (lmax + 1)^2); degree l and order m stand at index l*l + l + m. Component normalisation:
    sum_m Y_lm^2 = 2 l + 1. Axes and signs are those of e3nn: the polar axis is y and Y_1 = sqrt(3) (x, y, z).

    Derivatives of any order are exact and finite, at the poles too. A zero vector has no direction: what it yields
    above l = 0 is finite, its derivatives too, but means nothing.
    """
    squared = vectors.square().sum(dim=-1, keepdim=True)
    harmonics: torch.Tensor = _SolidHarmonics.apply(vectors * torch.where(squared > 0, squared, 1.0).rsqrt(), lmax)
    return harmonics


def solid_harmonics(lmax: int, vectors: torch.Tensor) -> torch.Tensor:
    """The regular solid harmonics r^l Y_lm: polynomials of vectors, in the order and shapes of spherical_harmonics."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    by_degree = spherical_harmonics(lmax, vectors).split([2 * l + 1 for l in range(lmax + 1)], dim=-1)
    return torch.cat([y * lengths**l for l, y in enumerate(by_degree)], dim=-1)


class _SolidHarmonics(torch.autograd.Function):
    """Homogeneous harmonic polynomials that are the spherical harmonics on the unit sphere.

    Their gradients are such polynomials themselves, one degree lower, so that all derivatives are matrix products.
    """

    generate_vmap_rule = True  # for torch.func

    @staticmethod
    def forward(unit: torch.Tensor, lmax: int) -> torch.Tensor:
        return _on_unit_sphere(lmax, unit)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, int], output: torch.Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.lmax = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (harmonics,) = ctx.saved_tensors
        derivatives = harmonics @ _gradient_matrix_like(ctx.lmax, harmonics.dtype, harmonics.device)
        return (derivatives.unflatten(-1, (3, -1)) @ grad.unsqueeze(-1)).squeeze(-1), None


@lru_cache
def gradient_matrix(lmax: int) -> torch.Tensor:
    """D[j, i * components + k] of d S_k / d x_i = sum_j S_j D[j, i, k], for the solid harmonics S.

    The gradient of degree l is the coupling of degrees l - 1 and 1; Euler's theorem, sum_i x_i dS/dx_i = l S, read off
    at the pole, where only m = 0 is not zero, gives the factor.
    """
    matrix = torch.zeros((lmax + 1) ** 2, 3, (lmax + 1) ** 2, dtype=torch.float64)
    for l in range(1, lmax + 1):
        coupling = clebsch_gordan(l - 1, 1, l)
        factor = l * sqrt((2 * l + 1) / (2 * l - 1)) / coupling[l - 1, 1, l].item()
        matrix[(l - 1) ** 2 : l * l, :, l * l : (l + 1) ** 2] = factor * coupling
    return matrix.flatten(1)


@lru_cache
def _gradient_matrix_like(lmax: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Kept, so that a GPU need not wait for it at each call."""
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return gradient_matrix(lmax).to(device, dtype)


def _on_unit_sphere(lmax: int, unit: torch.Tensor) -> torch.Tensor:
    """With (x, y, z) the vector, Y_lm is Q_lm(y) Re (z + i x)^m for m >= 0 and Q_l|m|(y) Im (z + i x)^|m| for m < 0."""
    # rows of one component each: the arithmetic below runs over contiguous memory
    x, y, z = unit.movedim(-1, 0).contiguous().unbind(0)
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

    By the recursion in l of S. A. Holmes and W. E. Featherstone, J. Geod. 76, 279 (2002).
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
