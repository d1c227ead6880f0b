"""A cell repeated in a supercell: which atom is which, modulo the supercell, and where operations take them.

Nothing is searched for in the supercell. It has the operations of the cell that turn its lattice into itself.
"""

from __future__ import annotations

from functools import cached_property

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.properties.phonons.supercell import Integers
from atomsml.simulate.symmetry import SpaceGroup

Array = NDArray[np.float64]

SAME = 1e-5  # A: symmetric atoms miss each other by less


class Repeated:
    """A supercell whose lattice vectors are the rows of M A, for the rows A of a cell.

    Attributes:
        copies: (copies, 3) lattice vectors of the cell, one of each class modulo the supercell; the first is 0.
        atom, copy: (atoms,) which atom of the cell each is, and in which copy: all copies of an atom follow each other.

    Raises:
        ValueError: no symmetry can be found in the cell.
    """

    def __init__(self, cell: ase.Atoms, matrix: Integers) -> None:
        self.cell, self.matrix = cell, matrix
        self._size = abs(round(np.linalg.det(matrix)))
        self._adjugate = np.round(np.linalg.inv(matrix) * self._size).astype(int)
        low, high = np.minimum(matrix, 0).sum(axis=0), np.maximum(matrix, 0).sum(axis=0)
        box = np.stack(np.meshgrid(*map(np.arange, low, high + 1), indexing="ij"), axis=-1).reshape(-1, 3)
        near = box[np.square(box).sum(axis=1).argsort(kind="stable")]
        self._keys, chosen = np.unique(self._key(near), return_index=True)
        self.copies = near[chosen]
        self.atom = np.repeat(np.arange(len(cell)), self._size)
        self.copy = np.tile(np.arange(self._size), len(cell))
        group = SpaceGroup(cell.positions, cell.numbers, cell.cell.array, SAME)
        turned = matrix @ group.fractional.transpose(0, 2, 1) @ self._adjugate
        kept = np.all(turned % self._size == 0, axis=(1, 2))
        self.rotations, self.permutation = group.rotations[kept], group.permutation[kept]
        self._fractional, self._cells = group.fractional[kept], group.cells[kept]

    @property
    def atoms(self) -> ase.Atoms:
        """With the masses of the cell, in the order of `atom`."""
        cell = self.cell
        positions = cell.positions[self.atom] + self.copies[self.copy] @ cell.cell.array
        numbers, masses = cell.numbers[self.atom], cell.get_masses()[self.atom]
        return ase.Atoms(numbers, positions, cell=self.matrix @ cell.cell.array, pbc=True, masses=masses)

    def index(self, atom: Integers, vector: Integers) -> Integers:
        """(...) which atom of the supercell is an atom (...) of the cell, shifted by lattice vectors (..., 3)."""
        return atom * self._size + np.searchsorted(self._keys, self._key(vector))

    def turned(self, operations: Integers, fixed: int) -> Integers:
        """(operations, atoms) where some take each atom, after a shift that brings atom `fixed` of the cell into it."""
        cells = self._cells[operations] - self._cells[operations, None, fixed]
        vectors = self.copies @ self._fractional[operations].transpose(0, 2, 1)
        ends = self.index(self.permutation[operations, :, None], vectors[:, None] + cells[:, :, None])
        return ends.reshape(len(operations), -1)

    @cached_property
    def first(self) -> Integers:
        """(atoms of the cell,) the first atom of the orbit of each."""
        return self.permutation.min(axis=0)

    def _key(self, vector: Integers) -> Integers:
        """The same for vectors that differ by lattice vectors of the supercell, and for no others."""
        x, y, z = np.moveaxis(vector @ self._adjugate % self._size, -1, 0)
        return (x * self._size + y) * self._size + z
