"""Fragments: the molecules of which a complex consists, by its bonds or as they are named."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from atomsml.electronic_state import state_of_atoms
from atomsml.io import bond_graph
from atomsml.io.bonds import mol_joined

REACH = 1.3  # times the sum of their covalent radii: atoms that are closer belong to one molecule

Fragments = tuple[tuple[int, ...], ...]  # the atoms of each, ascending


def molecules(atoms: ase.Atoms) -> Fragments:
    """What bonds hold together, in the order of their first atoms.

    Raises:
        ValueError: a periodic system.
    """
    from rdkit import Chem

    return tuple(sorted(tuple(sorted(each)) for each in Chem.GetMolFrags(mol_joined(atoms, REACH))))


def fragments_of(atoms: ase.Atoms, named: Fragments | None = None) -> Fragments:
    """The fragments that are named, or the molecules.

    Raises:
        ValueError: a periodic system, an ion or an open shell, fewer than two molecules, or names that leave out atoms,
            that are no atoms, or that have one twice.
    """
    if atoms.pbc.any():
        raise ValueError(f"interaction energies are of molecules, and this is periodic: pbc is {atoms.pbc.tolist()}")
    state = state_of_atoms(atoms)
    if state.charge or state.spin not in (None, 1):
        raise ValueError("it is charged or an open shell, and nothing says which of its fragments is")
    if named is None:
        found = molecules(atoms)
        if len(found) < 2:
            raise ValueError("it is one molecule, not a complex of several; name the fragments if they are bonded")
        return found
    every = [i for fragment in named for i in fragment]
    if sorted(every) != list(range(len(atoms))):
        wrong = sorted(set(every) ^ set(range(len(atoms)))) or sorted({i for i in every if every.count(i) > 1})
        raise ValueError(
            f"fragments must have each of its {len(atoms)} atoms once, counted from 0; see atoms "
            f"{', '.join(map(str, wrong[:10]))}"
        )
    if len(named) < 2 or () in named:
        raise ValueError(f"a complex has two fragments at least, and none without atoms; got {len(named)}")
    return tuple(tuple(sorted(fragment)) for fragment in named)


def cut_bonds(atoms: ase.Atoms, fragments: Fragments) -> list[tuple[int, int]]:
    """Bonded pairs of atoms that are in different fragments."""
    owner = {i: number for number, fragment in enumerate(fragments) for i in fragment}
    return sorted(pair for pair in bond_graph(atoms, REACH) if owner[pair[0]] != owner[pair[1]])


def nearest(atoms: ase.Atoms, fragment: Sequence[int]) -> tuple[int, int, float]:
    """The atom of the fragment and the other atom that are the nearest to each other, and their distance in A."""
    inside = np.array(fragment)
    outside = np.setdiff1d(np.arange(len(atoms)), inside)
    distances: NDArray[np.float64] = cdist(atoms.positions[inside], atoms.positions[outside])
    i, j = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(inside[i]), int(outside[j]), float(distances[i, j])
