"""Force constants of a crystal: which displaced supercells are asked for, and what follows from the forces in them.

Of each atom that symmetry relates to no other one, displaced by u_k (rows), the forces F_k on atom j are -u_k Phi_j.
With the operations of its site they give its force constants by least squares, and those of the atoms that it is
turned into (Parlinski, Li and Kawazoe, Phys. Rev. Lett. 78, 4063 (1997)).

What is left of forces at a minimum, which is one to `fmax` only, does not matter: atoms are displaced both ways, where
symmetry does not make one of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import ase
import numpy as np
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import get_primitive, guess_primitive_matrix
from phonopy.structure.symmetry import Symmetry

from atomsml.properties.phonons.displacements import directions
from atomsml.properties.phonons.repeated import Repeated
from atomsml.properties.phonons.supercell import Integers, smallest

Array = NDArray[np.float64]


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

    supercell: Repeated
    moves: list[tuple[int, Array]]  # which atom of the cell, which is in the first copy, and by what, (3,) A

    @staticmethod
    def of(cell: ase.Atoms, supercell: Integers, distance: float) -> Displaced:
        """By `distance` (A) along as few directions as symmetry allows.

        Raises:
            ValueError: no symmetry can be found in the cell.
        """
        atoms = Repeated(cell, supercell)
        moves = [
            (atom, distance * direction)
            for atom in np.unique(atoms.first).tolist()
            for direction in directions(atoms.rotations[atoms.permutation[:, atom] == atom], cell.cell.array)
        ]
        return Displaced(atoms, moves)

    @property
    def images(self) -> list[ase.Atoms]:
        """The supercells to be evaluated."""
        atoms, images = self.supercell.atoms, []
        for atom, move in self.moves:
            image = atoms.copy()
            image.positions[self.supercell.index(np.array(atom), np.zeros(3, dtype=int))] += move
            images.append(image)
        return images

    def solve(self, images: Sequence[ase.Atoms]) -> ForceConstants:
        """Which are symmetric under the group, permutations, and shifts of the whole crystal."""
        supercell = self.supercell
        forces = np.array([image.get_forces(apply_constraint=False) for image in images])
        atoms = len(supercell.cell)
        constants = np.empty((atoms, len(supercell.atom), 3, 3))
        for atom in np.unique(supercell.first).tolist():
            asked = [k for k, (displaced, _) in enumerate(self.moves) if displaced == atom]
            moves = np.array([self.moves[k][1] for k in asked])
            fitted = _fit(supercell, atom, moves, forces[asked])
            others, operations = np.unique(supercell.permutation[:, atom], return_index=True)
            r = supercell.rotations[operations][:, None]
            constants[others[:, None], supercell.turned(operations, atom)] = r.swapaxes(2, 3) @ fitted @ r
        return ForceConstants(supercell, _invariant(supercell, constants), self.moves, forces)


def _fit(supercell: Repeated, atom: int, moves: Array, forces: Array) -> Array:
    """(atoms, 3, 3) force constants of one atom from `forces` (moves, atoms, 3), by all operations of its site."""
    site = np.flatnonzero(supercell.permutation[:, atom] == atom)
    r = supercell.rotations[site]
    turned = moves @ r
    before = supercell.turned(site, atom).argsort(axis=1)  # which atom each operation takes to each
    right = np.einsum("gki,kgaj,gjl->ail", turned, forces[:, before], r, optimize=True)
    return -np.linalg.inv(np.einsum("gki,gkj->ij", turned, turned)) @ right


def _invariant(supercell: Repeated, constants: Array) -> Array:
    """The nearest (atoms of the cell, atoms, 3, 3) that are the same from either atom, and whose sums vanish.

    The second is the product of Phi with the projector I - 1/N, from both sides.
    """
    atoms = np.arange(len(constants))[:, None]
    back = supercell.index(atoms, -supercell.copies[supercell.copy])
    constants = (constants + constants[supercell.atom, back].swapaxes(2, 3)) / 2
    means = constants.mean(axis=1)
    return constants - means[:, None] - means[supercell.atom].swapaxes(1, 2) + means.mean(axis=0)


@dataclass(frozen=True, eq=False)
class ForceConstants:
    """Of a crystal, and the forces from which they are."""

    supercell: Repeated
    constants: Array  # (atoms of the cell, atoms, 3, 3) eV/A^2: of an atom of the first copy and each of the supercell
    moves: list[tuple[int, Array]]
    forces: Array  # (moves, atoms, 3) eV/A

    def phonopy(self) -> Phonopy:
        """With force constants and forces, for what follows from them."""
        ours, unit = self.supercell, _to_phonopy(self.supercell.cell)
        found = _Phonopy(unit, ours.matrix.T, guess_primitive_matrix(unit))  # whose lattice vectors are columns
        theirs = found.supercell
        atom = np.array([theirs.u2u_map[i] for i in theirs.s2u_map])
        vector = theirs.scaled_positions @ ours.matrix - ours.cell.get_scaled_positions(wrap=False)[atom]
        vector = np.round(vector).astype(int)

        def seen_from(i: int) -> Integers:
            """Which of our atoms each of theirs is, when their atom i is in our first copy."""
            return ours.index(atom, vector - vector[i])

        displaced = [int(theirs.u2s_map[i]) for i, _ in self.moves]
        found.dataset = {
            "natom": len(atom),
            "first_atoms": [
                {"number": i, "displacement": move, "forces": forces[seen_from(i)]}
                for i, (_, move), forces in zip(displaced, self.moves, self.forces, strict=True)
            ],
        }
        primitive = found.primitive.p2s_map
        found.force_constants = np.array([self.constants[atom[i], seen_from(i)] for i in primitive])
        return found


class _Phonopy(Phonopy):
    """Searches for the symmetry of its supercell only when it is asked for: that takes longer than all else."""

    def _search_symmetry(self) -> None:
        pass

    @cached_property
    def _symmetry(self) -> Symmetry:
        super()._search_symmetry()
        return self.__dict__["_symmetry"]

    def _search_primitive_symmetry(self) -> None:
        self._primitive_symmetry = Symmetry(self._primitive, self._symprec)


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
