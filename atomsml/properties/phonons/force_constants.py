"""Force constants of a crystal: which supercells phonopy wants to see, and what follows from the forces in them.

What is left of forces at a minimum, which is one to `fmax` only, does not matter: atoms are displaced both ways, where
symmetry does not make one of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import get_primitive, guess_primitive_matrix

from atomsml.properties.phonons.supercell import Integers, smallest


def repeated(minimum: ase.Atoms, multiples: Sequence[int] | None, length: float) -> tuple[ase.Atoms, Integers]:
    """A cell, and (3, 3) M: the supercell has the rows of M A as lattice vectors, for the rows A of the cell.

    It is the cell as it is and its multiples, where they are given; otherwise the primitive cell, and the smallest
    supercell of `length` (A), see `supercell.smallest`.

    Raises:
        ValueError: no supercell suits.
    """
    if multiples is not None:
        return minimum, np.diag(multiples)
    unit = _to_phonopy(minimum)
    primitive = get_primitive(unit, guess_primitive_matrix(unit))
    return to_ase(primitive), smallest(primitive, length)


@dataclass(frozen=True, eq=False)
class Displaced:
    """A crystal that waits for the forces in supercells of it, each with one atom displaced."""

    phonopy: Phonopy

    @staticmethod
    def of(cell: ase.Atoms, supercell: Integers, distance: float) -> Displaced:
        """By `distance` (A) along as few directions as symmetry allows."""
        unit = _to_phonopy(cell)
        phonopy = Phonopy(unit, supercell.T, guess_primitive_matrix(unit))  # whose lattice vectors are columns
        phonopy.generate_displacements(distance=distance)
        return Displaced(phonopy)

    @property
    def images(self) -> list[ase.Atoms]:
        """The supercells to be evaluated."""
        return [to_ase(each) for each in self.phonopy.supercells_with_displacements]

    def solve(self, images: Sequence[ase.Atoms]) -> Phonopy:
        """With force constants that are symmetric under the group, permutations, and shifts of the whole crystal."""
        self.phonopy.forces = [image.get_forces(apply_constraint=False) for image in images]
        self.phonopy.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
        self.phonopy.symmetrize_force_constants(show_drift=False)
        return self.phonopy


def to_ase(atoms: PhonopyAtoms) -> ase.Atoms:
    """With its masses."""
    return ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True, masses=atoms.masses)


def _to_phonopy(atoms: ase.Atoms) -> PhonopyAtoms:
    return PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )
