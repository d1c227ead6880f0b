"""Which atoms a picture joins, and where it has those of periodic structures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from atomsml.geometry import complete_cell
from atomsml.io import REACH, graph_from_ase, mol_bonded
from atomsml.simulate.bonding import NONMETALS

BOUNDARY = 0.01  # of a lattice vector: atoms closer to a face of the cell are on it

Bonds = NDArray[np.int64]  # (bonds, 5): atoms i and j, and the lattice vectors that lead to the image of j


def drawn_bonds(atoms: ase.Atoms) -> Bonds:
    """Atoms closer than 1.2 times the sum of their covalent radii, each pair once; of molecules as `mol_bonded`.

    Ions of one sign touch as well in crystals: two metals are not joined where one of them is bonded to a nonmetal.
    """
    bonds = _periodic_bonds(atoms) if atoms.pbc.any() else _open_bonds(atoms)
    metal = ~np.isin(atoms.numbers, list(NONMETALS))
    ends = metal[bonds[:, :2]]
    bound = np.zeros(len(atoms), bool)
    bound[bonds[ends.any(1) & ~ends.all(1), :2]] = True
    return bonds[~(ends.all(1) & bound[bonds[:, :2]].any(1))]


def _open_bonds(atoms: ase.Atoms) -> Bonds:
    pairs = [sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())) for bond in mol_bonded(atoms).GetBonds()]
    return np.pad(np.array(sorted(pairs), np.int64).reshape(-1, 2), ((0, 0), (0, 3)))


def _periodic_bonds(atoms: ase.Atoms) -> Bonds:
    radii = np.array([_radius(number) for number in atoms.numbers.tolist()])
    graph = graph_from_ase(atoms).with_neighbors(2 * REACH * float(radii.max()))
    (other, centre), offsets = graph.edge_index.numpy(), graph.cell_offsets.numpy()
    lengths = np.linalg.norm(graph.edge_vectors().numpy(), axis=1)
    # of a pair, which is listed in both directions, the one whose first difference is positive
    ahead = [tuple(row) > (0, 0, 0, 0) for row in np.column_stack([other - centre, offsets]).tolist()]
    kept = (lengths < REACH * (radii[other] + radii[centre])) & np.array(ahead, bool)
    return np.column_stack([centre, other, offsets])[kept]


@cache
def _radius(number: int) -> float:
    from rdkit.Chem import GetPeriodicTable

    return float(GetPeriodicTable().GetRcovalent(number))


@dataclass(frozen=True)
class Layout:
    """Where a picture has the atoms of a periodic structure."""

    shifts: NDArray[np.int64]  # (atoms, 3) lattice vectors to add to positions
    faces: NDArray[np.bool_]  # (atoms, 3) atoms on a face of the cell, which a crystal shows on the opposite one too


def layout(atoms: ase.Atoms, bonds: Bonds) -> Layout:
    """Molecules become whole with their centres in the cell, other atoms go into it.

    A network that is bonded to its own images cannot become whole.
    """
    cell = complete_cell(torch.from_numpy(atoms.cell.array[None]))[0].numpy()
    fractional = atoms.positions @ np.linalg.inv(cell)
    shifts = np.zeros((len(atoms), 3), np.int64)
    alone = np.zeros(len(atoms), bool)
    for members, whole in _molecules(bonds, shifts):
        if not whole:
            shifts[members] = 0
        places = fractional[members] + shifts[members]
        shifts[members] -= np.floor((places.mean(0) if whole else places) + BOUNDARY).astype(np.int64)
        alone[members] = not whole or len(members) == 1
    shifts = np.where(atoms.pbc, shifts, 0)
    faces = (abs(fractional + shifts) < BOUNDARY) & alone[:, None] & atoms.pbc
    return Layout(shifts, faces)


def _molecules(bonds: Bonds, shifts: NDArray[np.int64]) -> Iterator[tuple[list[int], bool]]:
    """Atoms that bonds connect, and whether `shifts`, which are set for them, make them whole."""
    neighbors: list[list[tuple[int, Bonds]]] = [[] for _ in shifts]
    for bond in bonds:
        neighbors[bond[0]].append((int(bond[1]), bond[2:]))
        neighbors[bond[1]].append((int(bond[0]), -bond[2:]))
    placed = np.zeros(len(shifts), bool)
    for first in range(len(shifts)):
        if placed[first]:
            continue
        members, whole = [first], True
        placed[first] = True
        for i in members:  # which grows as it is walked through
            for j, offset in neighbors[i]:
                if not placed[j]:
                    placed[j] = True
                    shifts[j] = shifts[i] + offset
                    members.append(j)
                whole = whole and bool((shifts[j] == shifts[i] + offset).all())
        yield members, whole
