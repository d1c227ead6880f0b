"""Radial functions of a potential as uniform quintic splines: what a prediction reads instead of a network.

A radial function that vanishes at the cutoff rc like an envelope is written as

    R = u sum_(i = 0 ... 5) B_i(t) c[k + i],   u = (1 - x)^3,   x = r / rc,   k = floor(n s),   t = n s - k

with the six pieces B_i of the cardinal quintic B-spline (C. de Boor, "A practical guide to splines", chapter IX) on n
intervals of s = 1.5 x / (x + 0.5), which are nine times shorter at r = 0 than at the cutoff: functions of a network
vary fastest between close atoms. Whatever the coefficients c, R has four continuous derivatives and vanishes at the
cutoff with its first two. The six products u B_i depend on the distance alone, so that each of the many functions of
an edge is a sum of six products, and its slope is another one: energies and forces agree to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy.linalg import cho_solve_banded, cholesky_banded
from torch import Tensor

MAX_PIECES = 2048
SAMPLES = 4  # fitted points of a piece
SHORTEST = 0.4  # A; even two hydrogen atoms so close are 5 eV above their bond

PIECES = torch.tensor(
    [
        [1, -5, 10, -10, 5, -1],
        [26, -50, 20, 20, -20, 5],
        [66, 0, -60, 0, 30, -10],
        [26, 50, 20, -20, -20, 10],
        [1, 5, 10, 10, 5, -5],
        [0, 0, 0, 0, 0, 1],
    ],
    dtype=torch.float64,
)
"""120 B_i(t) = sum_n PIECES[i, n] t^n: the pieces of the quintic B-spline from its last to its first."""


@dataclass(frozen=True)
class RadialTable:
    """Spline coefficients of many functions, and how well they reproduce what was tabulated.

    Deviations are largest differences over the largest value (slope) of all functions, at distances of 0.4 A and more.
    """

    coefficients: Tensor  # (kinds, pieces + 5, functions) float64; kinds of pairs have functions of their own
    cutoff: float  # A
    value_deviation: float = math.inf
    slope_deviation: float = math.inf

    @property
    def pieces(self) -> int:
        return self.coefficients.shape[1] - 5

    def grid(self, positions: Tensor) -> Tensor:
        """Distances from positions n s between 0 and the number of pieces n."""
        s = positions / self.pieces
        return self.cutoff * 0.5 * s / (1.5 - s)

    def basis(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances (E,) -> k (E,) int64, weights u B_i (E, 6) and their derivatives (E, 6).

        The weights are zero from the cutoff on, where k is that of the last piece.
        """
        x = (r / self.cutoff).clamp(max=1)
        position = self.pieces * 1.5 * x / (x + 0.5)
        slope_of_position = self.pieces / self.cutoff * 0.75 / (x + 0.5) ** 2
        k = position.detach().long().clamp(max=self.pieces - 1)
        t = position - k
        powers = torch.stack([torch.ones_like(t), t, t**2, t**3, t**4, t**5], dim=1)
        pieces = PIECES.to(r) / 120
        values = powers @ pieces.T
        slopes = powers[:, :5] @ (pieces[:, 1:] * torch.arange(1, 6).to(r)).T * slope_of_position[:, None]
        to_cutoff = (1 - x)[:, None]
        u, slope_of_u = to_cutoff**3, to_cutoff**2 * (-3 / self.cutoff)
        return k, u * values, u * slopes + slope_of_u * values

    def __call__(self, r: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (E,) and kinds (E,) -> values and derivatives (E, functions): the reference of the kernels."""
        k, weights, slopes = self.basis(r)
        near = self.coefficients.to(r)[kind[:, None], k[:, None] + torch.arange(6, device=k.device)]
        return torch.einsum("ei,eif->ef", weights, near), torch.einsum("ei,eif->ef", slopes, near)


def tabulate(function: Callable[[Tensor], Tensor], cutoff: float, tolerance: float, pieces: int = 64) -> RadialTable:
    """Spline fitted to functions of the distance, with `pieces` or as many more as it takes.

    Combinations of functions need no table of their own: theirs has the same combinations of the coefficients.

    Args:
        function: (points,) distances in A -> (kinds, points, functions) float64, twice differentiable by autograd.
        tolerance: of both deviations. Slopes deviate most, some hundred times more than values; rounded to float32,
            slopes of several hundred pieces are uncertain by 2e-6 of the largest.

    Raises:
        ValueError: 2048 pieces are not enough.
    """
    while True:
        table = RadialTable(_fit(function, cutoff, pieces), cutoff)
        value, slope = _deviations(table, function)
        worst = max(value, slope)
        if worst <= tolerance:
            return replace(table, value_deviation=value, slope_deviation=slope)
        if not worst < math.inf or pieces >= MAX_PIECES:
            raise ValueError(
                f"radial functions differ by {worst:.0e} of their maximum from splines of {pieces} pieces, more than "
                f"{tolerance:.0e}: they are not smooth enough for a table, ask for exact predictions"
            )
        growth = 1.05 * (worst / tolerance) ** (1 / 5)  # slopes converge with the fifth power of the spacing
        pieces = min(math.ceil(pieces * min(max(growth, 1.1), 2)), MAX_PIECES)


def _fit(function: Callable[[Tensor], Tensor], cutoff: float, pieces: int) -> Tensor:
    """Coefficients (kinds, pieces + 5, functions) that minimise the sum of (u B c - R)^2 over evenly spaced points.

    Nothing is divided by u, hence no noise near the cutoff. The normal equations are a band of width 11; they are
    accurate enough, since their Cholesky factors do not depend on how the coefficients are scaled.
    """
    table = RadialTable(torch.empty(1, pieces + 5, 1), cutoff)
    r = table.grid((torch.arange(pieces * SAMPLES, dtype=torch.float64) + 0.5) / SAMPLES)
    with torch.no_grad():
        samples = function(r)
    kinds, _, functions = samples.shape
    weights = table.basis(r)[1].view(pieces, SAMPLES, 6).mT
    products = weights @ weights.mT
    projections = weights @ samples.view(kinds, pieces, SAMPLES, functions)
    band = torch.zeros(6, pieces + 5, dtype=torch.float64)  # [d, j] = element (j + d, j)
    right = samples.new_zeros(kinds, pieces + 5, functions)
    for i in range(6):
        right[:, i : i + pieces] += projections[:, :, i]
        for j in range(i + 1):
            band[i - j, j : j + pieces] += products[:, i, j]
    factor = cholesky_banded(band.numpy(), lower=True)
    columns = right.movedim(1, 0).flatten(1).numpy()
    solution = torch.from_numpy(cho_solve_banded((factor, True), columns, check_finite=False))
    return solution.view(pieces + 5, kinds, functions).movedim(0, 1).contiguous()


def _deviations(table: RadialTable, function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Largest differences of values and slopes, over the largest value and slope.

    They are looked for between the fitted points, at multiples of a quarter piece: there, errors of quintic splines,
    which are like Bernoulli polynomials of degree 6, and those of their slopes have their peaks.
    """
    r = table.grid(torch.arange(table.pieces * SAMPLES, dtype=torch.float64) / SAMPLES)
    kinds = torch.arange(len(table.coefficients))
    errors, largest = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for part in r[r >= SHORTEST].split(256):  # what autograd keeps of all points might be too much
        exact = torch.autograd.functional.jvp(function, part, torch.ones_like(part))
        ours = table(part.repeat(len(kinds)), kinds.repeat_interleave(len(part)))
        for i, (a, b) in enumerate(zip(exact, ours, strict=True)):
            errors[i] = torch.maximum(errors[i], (a.flatten(0, 1) - b).abs().max())
            largest[i] = torch.maximum(largest[i], a.abs().max())
    value, slope = (errors / largest.clamp(min=torch.finfo(torch.float64).tiny)).tolist()
    return value, slope
