"""Radial functions that are trainable cubic splines: Facet's in place of a network of the distance.

    R(r) = sum_k c_k b_k(r),   b_k(r) = a (rc / r) envelope(r) B(n r / rc - k),   k = -1 ... n + 1

with the cardinal cubic B-spline B (C. de Boor, "A practical guide to splines", chapter IX) on n intervals from 0 to the
cutoff rc. At any distance four of the b_k are not zero: a coefficient c_k is learned from the pairs within two
intervals of its knot alone. R has two continuous derivatives, which the envelope makes vanish at the cutoff. Division
by r, as in Bessel functions, lets close pairs begin as the stronger ones and learn faster.

The basis is a dense array: its product with the coefficients costs as much as writing the result, and a sum of four
gathered rows of coefficients ten times more once it is differentiated.
"""

from math import sqrt

import torch
from torch import Tensor

from atomsml.radial.bases import polynomial_envelope

BOND = 0.3  # r / rc at which R has unit variance but for the envelope: the distance of close neighbours
_SCALE = BOND * sqrt(315 / 151)  # a: the mean of sum_k B(x - k)^2 over x is 151/315


def cubic_b_spline(x: Tensor) -> Tensor:
    """B(x), the bump of cubic pieces between the integers -2 ... 2 whose shifts B(x - k) sum to 1; any shape."""
    distance = torch.where(x > 0, x, -x)  # not abs(), whose slope at 0 is 0: it would spoil the second derivative there
    return (2 - distance).clamp(min=0) ** 3 / 6 - (1 - distance).clamp(min=0) ** 3 * (2 / 3)


def spline_basis(r: Tensor, cutoff: float, num: int, power: int) -> Tensor:
    """The num = n + 3 functions b_k, for coefficients that start as N(0, 1).

    Lengths in A, shapes (pairs,) -> (pairs, num); `power` is that of the envelope. r must be positive. Raises
    ValueError for num < 4.
    """
    if num < 4:
        raise ValueError(f"a cubic spline has at least 4 basis functions, got {num}")
    intervals = num - 3
    knots = torch.arange(-1, intervals + 2, dtype=r.dtype, device=r.device)
    amplitude = (_SCALE * cutoff) * polynomial_envelope(r, cutoff, power) / r
    return cubic_b_spline(r[:, None] * (intervals / cutoff) - knots) * amplitude[:, None]
