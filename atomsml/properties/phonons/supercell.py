"""Supercells for phonons: the smallest one that has the symmetry of the crystal and keeps an atom and its images apart.

A supercell of less symmetry than the crystal would need more displacements, and give modes that belong together
different frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.symmetry import Symmetry

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

GROWTH = 1.03  # of the length that is asked for, where the supercell that it gives will not do
TRIES = 60


def smallest(primitive: PhonopyAtoms, length: float) -> Integers:
    """(3, 3) M, so that the rows of M A are the lattice vectors of a supercell, for the rows A of the primitive cell.

    It multiplies either the shortest or the conventional lattice vectors. No lattice vector of it is shorter than
    `length` (A).

    Raises:
        ValueError: there is none.
    """
    symmetry = Symmetry(primitive)
    cell = primitive.cell
    _, reduced = minkowski_reduce(cell)
    conventional = np.linalg.inv(symmetry.dataset.transformation_matrix).T
    bases = [reduced, np.round(conventional).astype(int)]
    found = [m for basis in bases for m in _multiples(basis, cell, symmetry.pointgroup_operations, length)]
    if not found:
        raise ValueError(f"no supercell with lattice vectors longer than {length:g} A is as symmetric; give one")
    return min(found, key=np.linalg.det)


def shortest(cell: Array) -> float:
    """The length of the shortest lattice vector, A."""
    reduced, _ = minkowski_reduce(cell)
    return float(np.linalg.norm(reduced, axis=1).min())


def _multiples(basis: Integers, cell: Array, rotations: Integers, length: float) -> Iterator[Integers]:
    """The first that will do of the multiples of the vectors of a basis, if there is one."""
    lengths = np.linalg.norm(basis @ cell, axis=1)
    for asked in length * GROWTH ** np.arange(TRIES):
        multiples = np.ceil(asked / lengths - 1e-6).astype(int)  # vectors of one length have one multiple
        matrix = multiples[:, None] * basis
        if shortest(matrix @ cell) > length - 1e-6 and _is_symmetric(matrix, rotations):
            yield matrix * int(np.sign(np.linalg.det(matrix)))
            return


def _is_symmetric(matrix: Integers, rotations: Integers) -> bool:
    """Whether rotations of fractional columns, x -> W x, turn the lattice of a supercell into itself."""
    turned = matrix @ rotations.transpose(0, 2, 1) @ np.linalg.inv(matrix)
    return bool(np.abs(turned - np.round(turned)).max() < 1e-6)
