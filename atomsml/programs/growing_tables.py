"""Tables of radial functions that are added when elements first occur, in memory that does not move."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from atomsml.codegen.machine import lanes
from atomsml.ops.graded_convolution import GradedTable
from atomsml.programs.tabulated_convolution import RadialRows

MOST_BYTES = 2**28  # of the tables of a layer, unless a single structure needs more


class NoRoom(Exception):
    """There is none for the weights of other elements: new ones must be made."""


class Shelf:
    """Tables of one layer, or of its densities, with room for some more.

    Memory is asked for at once, but the system gives it as tables are written: it lies where it is, and what was
    written stays.

    Args:
        tables: of all elements; they get room up to MOST_BYTES, but `most` of them in any case.
    """

    def __init__(
        self, kinds: int, paths: int, channels: int, rows_each: int, tables: int, most: int, dtype: torch.dtype
    ) -> None:
        width = lanes(dtype)
        blocks = math.ceil(channels / width)
        each = blocks * rows_each * paths * width * dtype.itemsize
        self._tables = min(tables, max(most, MOST_BYTES // each))
        self.rows_each, self._missing = rows_each, blocks * width - channels
        shape = blocks, self._tables * rows_each, paths, width
        self.rows = RadialRows(torch.empty(shape, dtype=dtype), torch.zeros(kinds, dtype=torch.int64))
        self._start = self.rows.start.numpy()
        self._places: dict[Hashable, int] = {}

    def has(self, key: Hashable) -> bool:
        return key in self._places

    def add(self, key: Hashable, coefficients: Tensor) -> None:
        """coefficients (rows, paths * channels); raises NoRoom."""
        place = len(self._places)
        if place == self._tables:
            raise NoRoom
        _, _, paths, width = self.rows.values.shape
        padded = torch.nn.functional.pad(coefficients.unflatten(1, (paths, -1)), (0, self._missing))
        mine = self.rows.values[:, place * self.rows_each : (place + 1) * self.rows_each]
        mine.copy_(padded.unflatten(2, (-1, width)).permute(2, 0, 1, 3))
        self._places[key] = place

    def assign(self, kind: int, key: Hashable) -> None:
        self._start[kind] = self._places[key] * self.rows_each


class SenderTables:
    """Of a graded first layer, whose features depend on the element of the sender alone: a table for each that occurs.

    Args:
        elements: atomic numbers of the model; their places are the species.
        table: of the first layer.
        rows_each: of a table.
        most: elements for which there is room in any case.
        make: species -> (rows, paths * channels).
    """

    def __init__(
        self,
        elements: Sequence[int],
        table: GradedTable,
        rows_each: int,
        most: int,
        dtype: torch.dtype,
        make: Callable[[int], Tensor],
    ) -> None:
        (piece,), number = table.slices, len(elements)
        self._shelf = Shelf(number**2, len(piece.table.paths), piece.width, rows_each, number, most, dtype)
        self._species = {z: i for i, z in enumerate(elements)}
        self._make = make
        self._growing = threading.Lock()

    @property
    def rows(self) -> RadialRows:
        return self._shelf.rows

    def prepare(self, elements: tuple[int, ...]) -> None:
        """Make ready what atoms of these elements need; raises NoRoom."""
        with self._growing, torch.inference_mode(False), torch.no_grad():
            for s in (self._species[z] for z in elements):
                if not self._shelf.has(s):
                    self._shelf.add(s, self._make(s))
                    for receiver in range(len(self._species)):
                        self._shelf.assign(receiver * len(self._species) + s, s)
