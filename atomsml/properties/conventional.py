"""Conventional cells, to which Miller indices and Wyckoff letters refer, and how many atoms of them are alike."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from moyopy import MoyoDataset
from numpy.typing import NDArray

from atomsml.simulate.symmetry import find_symmetry

SYMPREC = 0.01  # A: by how much positions may miss their symmetry


@dataclass(frozen=True, eq=False)
class Site:
    """Atoms of a cell that symmetry makes alike."""

    element: str
    index: int  # of the first of them
    multiplicity: int  # how many they are in the cell
    wyckoff: str  # letter
    symmetry: str  # of the site, as in the International Tables


def conventional_cell(atoms: ase.Atoms) -> ase.Atoms:
    """The crystal in the standard cell of the International Tables, made symmetric.

    Raises:
        ValueError: no symmetry can be found, as where atoms overlap.
    """
    cell = _dataset(atoms).std_cell
    return ase.Atoms(cell.numbers, scaled_positions=cell.positions, cell=cell.basis, pbc=True)


def distinct_sites(atoms: ase.Atoms) -> list[Site]:
    """One of each kind of atom that symmetry tells apart, in the order of the atoms.

    Raises:
        ValueError: no symmetry can be found.
    """
    found = _dataset(atoms)
    orbits = np.array(found.orbits)
    return [
        Site(
            element=atoms.symbols[first],
            index=int(first),
            multiplicity=int(np.count_nonzero(orbits == first)),
            wyckoff=found.wyckoffs[first],
            symmetry=found.site_symmetry_symbols[first],
        )
        for first in np.unique(orbits)
    ]


def same_faces(slab: ase.Atoms) -> bool:
    """Whether a symmetry of a slab exchanges its two faces; its third lattice vector is normal to the others."""
    return bool((rotations(slab)[:, 2, 2] == -1).any())


def rotations(atoms: ase.Atoms) -> NDArray[np.int64]:
    """(operations, 3, 3) of fractional coordinates, those of the space group without its translations."""
    return np.array(_dataset(atoms).operations.rotations, dtype=np.int64)


def point_group(atoms: ase.Atoms) -> NDArray[np.float64]:
    """(operations, 3, 3) R in the frame of the cell: v becomes R v. Those of the crystal, whatever its supercell.

    Raises:
        ValueError: no symmetry can be found.
    """
    found = _dataset(atoms)
    primitive = found.prim_std_cell  # its lattice has the symmetry of the crystal, that of `atoms` may have less
    basis = np.array(primitive.basis).T
    w = np.unique(MoyoDataset(primitive, symprec=SYMPREC).operations.rotations, axis=0)
    turn = np.array(found.std_rotation_matrix)
    turned = turn.T @ basis @ w @ np.linalg.inv(basis) @ turn
    u, _, v = np.linalg.svd(turned)  # the nearest rotation: the cell may miss its symmetry by a little
    return np.asarray(u @ v)


def _dataset(atoms: ase.Atoms) -> MoyoDataset:
    return find_symmetry(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, SYMPREC)
