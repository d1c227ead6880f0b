"""Products of matrices inside kernels: tiles of the result are summed up in registers.

A tile of the result, some rows by some vectors of columns, takes one number of x for each row and one vector of w for
each column in every step of the sum. Tiles have 8, 4, 2 or 1 units of rows, so that any number is made of few tiles,
and nothing beyond them is touched. Every number of the result is one sum in the order of k, whatever the tile: a row
gets the same bits in any range.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code
from atomsml.codegen.machine import lanes, registers, whole
from atomsml.codegen.values import Value, fma


@dataclass(frozen=True)
class Steps:
    """How many numbers apart the neighbours of an array lie, in three directions."""

    unit: int  # from one unit of rows to the next
    row: int  # from one row of a unit to the next
    k: int = 0  # from one number of a row to the next that is summed over; of x only


@dataclass(frozen=True)
class Product:
    """out[row] = sum over k of x[row, k] w[k] (out += with `accumulate`); addresses are those of unit 0 and k = 0."""

    code: Code
    rows: int  # of a unit
    k: int | Value
    columns: int
    weights: Array
    weights_k: int  # numbers from one k to the next
    weights_vector: int  # numbers from one vector of columns to the next
    x: Array
    x_steps: Steps
    out: Array
    out_steps: Steps
    accumulate: bool

    def write(self, first: Value, last: Value) -> None:
        """For units first <= n < last: tiles of as many as fit into the registers, then of half as many, and so on."""
        for units in (8, 4, 2, 1):
            if units == 1 or units * self.rows < registers() // 2:  # room for two vectors of columns
                first = self._units(first, last, units)

    def _units(self, first: Value, last: Value, units: int) -> Value:
        """Tiles of some units from the first on, while there are as many; returns the first of those left over."""

        def tiles(n: Value, _: Value) -> list[Value]:
            self._columns(self.x.row(n, self.x_steps.unit), self.out.row(n, self.out_steps.unit), units)
            return [n + units]

        return self.code.loop(first, last - (units - 1), tiles, [first], step=units)[0]

    def _columns(self, x: Array, out: Array, units: int) -> None:
        """All columns of some units, in tiles as wide as the registers allow; what fills no vector comes last."""
        code = self.code
        vectors, narrow = divmod(self.columns, code.lanes)
        fitting = (registers() - 1) // (units * self.rows + 1)  # sums, one row of w and one number of x
        width = next(w for w in (8, 4, 2, 1) if w <= max(fitting, 1))
        rest = vectors % width
        if vectors >= width:
            code.loop(0, vectors - rest, lambda v: self._tile(x, out, v, units, width, code.lanes), step=width)
        if rest:
            self._tile(x, out, code.integer(vectors - rest), units, rest, code.lanes)
        if narrow:
            self._tile(x, out, code.integer(vectors), units, 1, narrow)

    def _tile(self, x: Array, out: Array, v: Value, units: int, width: int, lanes: int) -> None:
        """Of all rows of some units, `width` vectors of columns from vector v on."""
        code, places = self.code, [(a, m) for a in range(units) for m in range(self.rows)]
        weights = self.weights.row(v, self.weights_vector)
        out = out.row(v, code.lanes)
        rows = [self.out_steps.unit * a + self.out_steps.row * m for a, m in places]
        targets = [row + i * code.lanes for row in rows for i in range(width)]

        def body(k: Value, *sums: Value) -> list[Value]:
            numbers, vectors = x.row(k, self.x_steps.k), weights.row(k, self.weights_k)
            row = [vectors.vector(i * self.weights_vector, lanes) for i in range(width)]
            updated = []
            for j, (a, m) in enumerate(places):
                number = numbers[self.x_steps.unit * a + self.x_steps.row * m].splat(lanes)
                updated += [fma(number, row[i], sums[j * width + i]) for i in range(width)]
            return updated

        start = [out.vector(target, lanes) if self.accumulate else code.zeros(lanes) for target in targets]
        for target, value in zip(targets, code.loop(0, self.k, body, start), strict=True):
            out.set_vector(value, target)


def packed(w: Tensor) -> Tensor:
    """(K, N) -> (vectors of columns, K, lanes), in the order in which a tile reads them; zeros fill the last vector."""
    missing = whole(w.shape[1], w.dtype) - w.shape[1]
    filled = torch.nn.functional.pad(w, (0, missing)) if missing else w
    return filled.unflatten(1, (-1, lanes(w.dtype))).transpose(0, 1).contiguous()
