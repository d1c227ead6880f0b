"""Rigid bonds: lengths that stay what they are, by RATTLE.

Bonds form stars: a centre, such as a carbon, and the ends about it, its hydrogens; an atom is of one star at most. A
row for each atom says all of the star of which it is the centre: `ends` (atoms, most ends), how many rows after the
centre each end comes, 0 where there is none, and `lengths`, in A, likewise. The multipliers of a star solve one small
system of equations, so that stars do not wait for each other, nor the host for a device.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import ase
import numpy as np
import torch
from ase.constraints import FixBondLengths
from ase.data import covalent_radii
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list
from torch import Tensor

BONDED = 1.2  # times the sum of the covalent radii
ITERATIONS = 6  # of Newton's method, which doubles the digits: 0.1 A of a bond become 1e-16 A in 5
CLOSE = 1e-6  # A, between the lengths that a constraint names and those that there are


class Stars(NamedTuple):
    """The rigid bonds of one structure."""

    ends: np.ndarray  # (atoms, most ends) int64
    lengths: np.ndarray  # (atoms, most ends) A
    positions: np.ndarray  # (atoms, 3) A, ends next to their centres where the structure has them in other cells


def hydrogen_bonds(atoms: ase.Atoms) -> list[tuple[int, int]]:
    """Each hydrogen with its nearest atom, if they are bonded: the pairs of a FixBondLengths of ASE."""
    reach = {(1, int(z)): BONDED * (covalent_radii[1] + covalent_radii[z]) for z in np.unique(atoms.numbers)}
    first, second, distances = neighbor_list("ijd", atoms, reach)
    nearest = dict[int, int]()
    for k in np.argsort(distances, kind="stable"):
        if atoms.numbers[first[k]] == 1:
            nearest.setdefault(int(first[k]), int(second[k]))
    return sorted({(min(pair), max(pair)) for pair in nearest.items()})


def stars_of(atoms: ase.Atoms) -> Stars:
    """What the FixBondLengths among the constraints of a structure say.

    Raises:
        ValueError: bonds that form no stars, or lengths that the bonds do not have.
    """
    found = [constraint for constraint in atoms.constraints if isinstance(constraint, FixBondLengths)]
    pairs = [(int(i), int(j)) for constraint in found for i, j in constraint.pairs]
    stars, positions = _by_centre(pairs), atoms.positions.copy()
    width = max(map(len, stars.values()), default=0)
    ends, lengths = np.zeros((len(atoms), width), np.int64), np.zeros((len(atoms), width))
    for centre, around in stars.items():
        arms, distances = find_mic(positions[around] - positions[centre], atoms.cell, atoms.pbc)
        positions[around] = positions[centre] + arms
        ends[centre, : len(around)] = np.array(around) - centre
        lengths[centre, : len(around)] = distances
    _check_lengths(found, positions)
    return Stars(ends, lengths, positions)


def _by_centre(pairs: list[tuple[int, int]]) -> dict[int, list[int]]:
    """The ends about each centre; of two atoms alone the first is the centre."""
    about = defaultdict[int, set[int]](set)
    for i, j in pairs:
        about[i].add(j)
        about[j].add(i)
    stars = defaultdict[int, set[int]](set)
    for i, j in pairs:
        centre, end = (j, i) if len(about[j]) > 1 or (len(about[i]) == 1 and j < i) else (i, j)
        if len(about[end]) > 1:
            raise ValueError("rigid bonds must be those of atoms to one other each, as of hydrogens; these form chains")
        stars[centre].add(end)
    return {centre: sorted(ends) for centre, ends in stars.items()}


def _check_lengths(constraints: list[FixBondLengths], positions: np.ndarray) -> None:
    for each in constraints:
        if each.bondlengths is None:
            continue
        there = np.linalg.norm(positions[each.pairs[:, 0]] - positions[each.pairs[:, 1]], axis=1)
        if np.abs(there - each.bondlengths).max() > CLOSE:
            raise ValueError("rigid bonds must have their lengths at the start; relax the structure with them first")


def along_bonds(velocities: Tensor, positions: Tensor, masses: Tensor, ends: Tensor) -> Tensor:
    """(atoms, 3) velocities or accelerations without the part that would change lengths: RATTLE's second half.

    The part that is left out is one of forces along the bonds (Andersen, J. Comput. Phys. 52, 24 (1983), Eq. 3.5).
    """
    arms = _arms(positions, ends)
    closing = (arms * _arms(velocities, ends)).sum(dim=2)
    return velocities + _pulled(_multipliers(arms, arms, masses, ends, closing), arms, masses, ends)


def drifted(
    positions: Tensor, velocities: Tensor, masses: Tensor, ends: Tensor, lengths: Tensor, time: float
) -> Tensor:
    """(atoms, 3) where the atoms are after a time, with all lengths kept: RATTLE's first half.

    Forces along the bonds as they were bring the lengths back; Newton's method for a star at a time (Kraeutler, van
    Gunsteren and Huenenberger, J. Comput. Chem. 22, 501 (2001)).
    """
    arms, moved = _arms(positions, ends), positions + time * velocities
    for _ in range(ITERATIONS):
        now = _arms(moved, ends)
        excess = 0.5 * (now.square().sum(dim=2) - lengths.square())
        moved = moved + _pulled(_multipliers(now, arms, masses, ends, excess), arms, masses, ends)
    return moved


def _arms(vectors: Tensor, ends: Tensor) -> Tensor:
    """(atoms, most ends, 3) of each end less that of its centre; 0 where there is none."""
    return vectors[_rows(ends)] - vectors[:, None]


def _rows(ends: Tensor) -> Tensor:
    """(atoms, most ends) of the ends; where there is none that of the centre."""
    return torch.arange(len(ends), device=ends.device)[:, None] + ends


def _multipliers(now: Tensor, arms: Tensor, masses: Tensor, ends: Tensor, wanted: Tensor) -> Tensor:
    """(atoms, most ends) impulses in units of `arms` that take away `wanted`, half the rates of the squared lengths."""
    products = torch.bmm(now, arms.transpose(1, 2))
    missing = torch.diag_embed((ends == 0).to(masses))
    of_ends = torch.diag_embed(products.diagonal(dim1=1, dim2=2) / masses[_rows(ends)])
    found: Tensor = torch.linalg.solve_ex(products / masses[:, None, None] + of_ends + missing, wanted)[0]
    return found


def _pulled(multipliers: Tensor, arms: Tensor, masses: Tensor, ends: Tensor) -> Tensor:
    """(atoms, 3) what such impulses between centres and ends change."""
    impulses = multipliers[:, :, None] * arms
    change = impulses.sum(dim=1).index_add(0, _rows(ends).flatten(), impulses.flatten(0, 1), alpha=-1)
    return change / masses[:, None]
