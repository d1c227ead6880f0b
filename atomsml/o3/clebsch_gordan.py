"""Clebsch-Gordan coefficients of the real irreps of SO(3)."""

from fractions import Fraction
from functools import cache
from math import copysign, factorial, sqrt

import numpy as np
import torch


def clebsch_gordan(l1: int, l2: int, l3: int) -> torch.Tensor:
    """The one equivariant coupling of l1 and l2 to l3, in the real basis of `spherical_harmonics`.

    With D_l the matrices of `wigner_d`, the result C of shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) satisfies
    sum_ijk D_l1[a, i] D_l2[b, j] D_l3[c, k] C[i, j, k] = C[a, b, c] for every rotation. Its Frobenius norm is 1;
    the sign is that of the Condon-Shortley coefficients carried to the real basis, which is the sign of e3nn.

    Returns a fresh float64 tensor on the CPU. Raises ValueError when |l1 - l2| <= l3 <= l1 + l2 does not hold.
    """
    if min(l1, l2, l3) < 0 or not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"({l1}, {l2}, {l3}) do not couple: choose degrees with |l1 - l2| <= l3 <= l1 + l2")
    return torch.tensor(_real_coefficients(l1, l2, l3), dtype=torch.float64, device="cpu")


@cache
def _real_coefficients(l1: int, l2: int, l3: int) -> np.ndarray:
    """The coefficients as an array; callers of the cache must not write into it."""
    coupling = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            coupling[l1 + m1, l2 + m2, l3 + m1 + m2] = _condon_shortley(l1, m1, l2, m2, l3, m1 + m2)
    first, second, third = _complex_from_real(l1), _complex_from_real(l2), _complex_from_real(l3)
    real = np.einsum("abc,ai,bj,ck->ijk", coupling, first, second, third.conj())
    return real.real / sqrt(2 * l3 + 1)


def _complex_from_real(degree: int) -> np.ndarray:
    """The unitary matrix that takes real components (columns, m = -l ... l) to complex ones (rows).

    The factor (-i)^l makes every real coupling, also those of odd l1 + l2 + l3, come out real.
    """
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    matrix[degree, degree] = 1.0
    for m in range(1, degree + 1):
        cosine, sine = degree + m, degree - m
        matrix[degree - m, cosine], matrix[degree - m, sine] = sqrt(0.5), -1j * sqrt(0.5)
        matrix[degree + m, cosine], matrix[degree + m, sine] = (-1) ** m * sqrt(0.5), (-1) ** m * 1j * sqrt(0.5)
    return (-1j) ** degree * matrix


def _condon_shortley(l1: int, m1: int, l2: int, m2: int, l3: int, m3: int) -> float:
    """<l1 m1 l2 m2 | l3 m3> in Racah's closed form, G. Racah, Phys. Rev. 62, 438 (1942).

    The alternating sum cancels badly in floating point: it is formed from Python's rationals, rounded once.
    """
    f = factorial
    triangle = Fraction(f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3), f(l1 + l2 + l3 + 1))
    orders = f(l1 + m1) * f(l1 - m1) * f(l2 + m2) * f(l2 - m2) * f(l3 + m3) * f(l3 - m3)
    total = Fraction(0)
    for k in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        below = f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k) * f(l2 + m2 - k)
        total += Fraction((-1) ** k, below * f(l3 - l2 + m1 + k) * f(l3 - l1 - m2 + k))
    return copysign(sqrt((2 * l3 + 1) * triangle * orders * total**2), total)
