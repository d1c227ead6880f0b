"""Radial functions of a potential as uniform quintic splines: what a prediction reads instead of a network.

A radial function that vanishes at the cutoff rc like an envelope is written as

    R = u sum_(i = 0 ... 5) B_i(t) c[k + i],   u = (1 - x)^3,   x = r / rc,   k = floor(n s),   t = n s - k

with the six pieces B_i of the cardinal quintic B-spline (C. de Boor, "A practical guide to splines", chapter IX) on n
intervals of s = 1.5 x / (x + 0.5), which are nine times shorter at r = 0 than at the cutoff: functions of a network
vary fastest between close atoms. Whatever the coefficients c, R has four continuous derivatives and vanishes at the
cutoff with its first two. The six products u B_i depend on the distance alone, so that each of the many functions of
an edge is a sum of six products, and its slope is another one: energies and forces agree to rounding.

Functions whose second derivative jumps at known distances are splines of their own in each of the segments between
these breaks, and share value and slope there. Those that vanish at the cutoff with their first derivative alone have
u = (1 - x)^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.linalg import cho_solve_banded, cholesky_banded
from torch import Tensor

MAX_PIECES = 2048  # of a segment
FEWEST = 8  # pieces of a segment to begin with
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
class SplineGrid:
    """Where the pieces of the splines begin: one segment from 0 to the cutoff, or several with breaks between them."""

    cutoff: float  # A
    pieces: tuple[int, ...]  # of each segment
    breaks: tuple[float, ...] = ()  # A, ascending
    power: int = 3  # of 1 - x in the envelope u

    @staticmethod
    def even(cutoff: float, pieces: int, breaks: tuple[float, ...] = (), power: int = 3) -> SplineGrid:
        """Segments share the pieces, evenly in s, but each has a few."""
        edges = SplineGrid(cutoff, (), breaks, power).edges
        shares = (edges.diff() * pieces).round().long().clamp(min=FEWEST).tolist() if breaks else [pieces]
        return SplineGrid(cutoff, tuple(shares), breaks, power)

    @property
    def edges(self) -> Tensor:
        """s where segments begin, and 1."""
        x = torch.tensor([0.0, *self.breaks, self.cutoff], dtype=torch.float64) / self.cutoff
        return 1.5 * x / (x + 0.5)

    @cached_property
    def numbers(self) -> Tensor:
        """What kernels read, float64: the cutoff, then of each segment begin, density, pieces and first row.

        At s of segment j the position in its splines is (s - begin) density, from 0 to the number of pieces.
        """
        pieces = torch.tensor(self.pieces, dtype=torch.float64)
        rows = (pieces + 5).cumsum(0) - pieces - 5
        segments = torch.stack([self.edges[:-1], pieces / self.edges.diff(), pieces, rows], dim=1)
        return torch.cat([torch.tensor([self.cutoff], dtype=torch.float64), segments.flatten()])

    def distances(self, segment: int, positions: Tensor) -> Tensor:
        """Distances from positions in the splines of a segment."""
        begin, density = self.numbers[1:].view(-1, 4)[segment, :2].tolist()
        s = positions / density + begin
        return self.cutoff * 0.5 * s / (1.5 - s)

    def basis(self, r: Tensor, segment: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Distances (E,) -> k (E,) int64, weights u B_i (E, 6) and their derivatives (E, 6).

        k counts the rows of all segments; with `segment` all distances are taken to be in that one. The weights are
        zero from the cutoff on, where k is that of the last piece.
        """
        x = (r / self.cutoff).clamp(max=1)
        s = 1.5 * x / (x + 0.5)
        mine = torch.bucketize(s.detach(), self.edges[1:-1].to(s), right=True)
        mine = mine if segment is None else torch.full_like(mine, segment)
        begin, density, pieces, first_row = self.numbers[1:].view(-1, 4).to(r)[mine].unbind(dim=1)
        position = (s - begin) * density
        slope_of_position = density / self.cutoff * 0.75 / (x + 0.5) ** 2
        k = torch.minimum(position.detach().trunc(), pieces - 1)
        t = position - k
        powers = torch.stack([torch.ones_like(t), t, t**2, t**3, t**4, t**5], dim=1)
        parts = PIECES.to(r) / 120
        values = powers @ parts.T
        slopes = powers[:, :5] @ (parts[:, 1:] * torch.arange(1, 6).to(r)).T * slope_of_position[:, None]
        to_cutoff = (1 - x)[:, None]
        u, slope_of_u = to_cutoff**self.power, to_cutoff ** (self.power - 1) * (-self.power / self.cutoff)
        return (k + first_row).long(), u * values, u * slopes + slope_of_u * values


@dataclass(frozen=True)
class RadialTable:
    """Spline coefficients of many functions, and how well they reproduce what was tabulated.

    Deviations are largest differences over the largest value (slope) of all functions, at distances of 0.4 A and more.
    """

    coefficients: Tensor  # (kinds, rows, functions) float64; kinds of pairs have functions of their own
    grid: SplineGrid
    value_deviation: float = math.inf
    slope_deviation: float = math.inf

    def __call__(self, r: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (E,) and kinds (E,) -> values and derivatives (E, functions): the reference of the kernels."""
        k, weights, slopes = self.grid.basis(r)
        near = self.coefficients.to(r)[kind[:, None], k[:, None] + torch.arange(6, device=k.device)]
        return torch.einsum("ei,eif->ef", weights, near), torch.einsum("ei,eif->ef", slopes, near)


def tabulate(function: Callable[[Tensor], Tensor], grid: SplineGrid, tolerance: float) -> RadialTable:
    """Splines fitted to functions of the distance, with the pieces of `grid` or as many more as it takes.

    Combinations of functions need no table of their own: theirs has the same combinations of the coefficients.

    Args:
        function: (points,) distances in A -> (kinds, points, functions) float64, twice differentiable by autograd
            between the breaks of the grid, once at them.
        tolerance: of both deviations. Slopes deviate most, some hundred times more than values; rounded to float32,
            slopes of several hundred pieces are uncertain by 2e-6 of the largest.

    Raises:
        ValueError: 2048 pieces of a segment are not enough.
    """
    while True:
        coefficients = [_fit(function, grid, segment) for segment in range(len(grid.pieces))]
        table = RadialTable(torch.cat(coefficients, dim=1), grid)
        value, slope = _deviations(table, function)
        worst = torch.maximum(value, slope).tolist()  # of each segment
        if max(worst) <= tolerance:
            return replace(table, value_deviation=value.max().item(), slope_deviation=slope.max().item())
        hopeless = [w for w, n in zip(worst, grid.pieces, strict=True) if not w <= tolerance and n >= MAX_PIECES]
        if hopeless or not sum(worst) < math.inf:
            raise ValueError(
                f"radial functions differ by {sum(hopeless) or sum(worst):.0e} of their maximum from splines of "
                f"{max(grid.pieces)} pieces, more than {tolerance:.0e}: they are not smooth enough for a table, ask "
                "for exact predictions"
            )
        pieces = [_grown(n, w, tolerance) for n, w in zip(grid.pieces, worst, strict=True)]
        grid = replace(grid, pieces=tuple(pieces))


def _grown(pieces: int, deviation: float, tolerance: float) -> int:
    """Slopes converge with the fifth power of the spacing."""
    if deviation <= tolerance:
        return pieces
    growth = 1.05 * (deviation / tolerance) ** (1 / 5)
    return min(math.ceil(pieces * min(max(growth, 1.1), 2)), MAX_PIECES)


def _fit(function: Callable[[Tensor], Tensor], grid: SplineGrid, segment: int) -> Tensor:
    """Coefficients (kinds, pieces + 5, functions) that minimise the sum of (u B c - R)^2 over evenly spaced points.

    Nothing is divided by u, hence no noise near the cutoff. The normal equations are a band of width 11; they are
    accurate enough, since their Cholesky factors do not depend on how the coefficients are scaled.
    """
    pieces = grid.pieces[segment]
    r = grid.distances(segment, (torch.arange(pieces * SAMPLES, dtype=torch.float64) + 0.5) / SAMPLES)
    with torch.no_grad():
        samples = function(r)
    kinds, _, functions = samples.shape
    weights = grid.basis(r, segment)[1].view(pieces, SAMPLES, 6).mT
    products = weights @ weights.mT
    projections = weights @ samples.view(kinds, pieces, SAMPLES, functions)
    band = torch.zeros(6, pieces + 5, dtype=torch.float64)  # [d, j] = element (j + d, j)
    right = samples.new_zeros(kinds, pieces + 5, functions)
    for i in range(6):
        right[:, i : i + pieces] += projections[:, :, i]
        for j in range(i + 1):
            band[i - j, j : j + pieces] += products[:, i, j]
    factor = cholesky_banded(band.numpy(), lower=True)
    columns = right.movedim(1, 0).flatten(1)
    solution = _solve(factor, columns)
    joints = [grid.breaks[i] for i in (segment - 1, segment) if 0 <= i < len(grid.breaks)]
    if joints:
        solution = _joined(factor, solution, function, grid, segment, torch.tensor(joints, dtype=torch.float64))
    return solution.view(pieces + 5, kinds, functions).movedim(0, 1).contiguous()


def _solve(factor: np.ndarray, right: Tensor) -> Tensor:
    return torch.from_numpy(cho_solve_banded((factor, True), right.numpy(), check_finite=False))


def _joined(
    factor: np.ndarray,
    solution: Tensor,
    function: Callable[[Tensor], Tensor],
    grid: SplineGrid,
    segment: int,
    joints: Tensor,
) -> Tensor:
    """The minimum among the splines that have the value and slope of the functions at the ends of their segment."""
    exact = _value_and_slope(function, joints)
    wanted = torch.cat(exact, dim=1).movedim(1, 0).flatten(1)  # (conditions, kinds * functions)
    k, *weights = grid.basis(joints, segment)
    first_row = sum(grid.pieces[:segment]) + 5 * segment
    columns = (k - first_row)[:, None] + torch.arange(6)
    conditions = torch.cat([torch.zeros(len(joints), len(solution)).to(w).scatter(1, columns, w) for w in weights])
    reach = _solve(factor, conditions.T)
    return solution + reach @ torch.linalg.solve(conditions @ reach, wanted - conditions @ solution)


def _deviations(table: RadialTable, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Largest differences of values and slopes in each segment, over the largest value and slope of all.

    They are looked for between the fitted points, at multiples of a quarter piece: there, errors of quintic splines,
    which are like Bernoulli polynomials of degree 6, and those of their slopes have their peaks.
    """
    kinds = torch.arange(len(table.coefficients))
    errors, largest = torch.zeros(2, len(table.grid.pieces), dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for segment, pieces in enumerate(table.grid.pieces):
        r = table.grid.distances(segment, torch.arange(pieces * SAMPLES, dtype=torch.float64) / SAMPLES)
        r = r[r >= SHORTEST]
        for part in r.split(256) if len(r) else ():  # what autograd keeps of all points might be too much
            exact = _value_and_slope(function, part)
            ours = table(part.repeat(len(kinds)), kinds.repeat_interleave(len(part)))
            for i, (a, b) in enumerate(zip(exact, ours, strict=True)):
                errors[i, segment] = torch.maximum(errors[i, segment], (a.flatten(0, 1) - b).abs().max())
                largest[i] = torch.maximum(largest[i], a.abs().max())
    value, slope = errors / largest.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    return value, slope


def _value_and_slope(function: Callable[[Tensor], Tensor], r: Tensor) -> tuple[Tensor, Tensor]:
    """Functions of each distance alone, and their derivatives.

    With u = 1, f' = d/du d/dr sum(u f). Sums alone are differentiated: torch's jvp, and any gradient along a direction,
    would import its symbolic shapes, which takes ten times as long as all the rest.
    """
    r = r.detach().requires_grad_()
    value = function(r)
    u = torch.ones_like(value, requires_grad=True)
    (pulled,) = torch.autograd.grad((u * value).sum(), r, create_graph=True)
    (slope,) = torch.autograd.grad(pulled.sum(), u)
    return value.detach(), slope
