"""Bonds: how long they are, and whether their lengths drift."""

from __future__ import annotations

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list

from atomsml.io.bonds import REACH
from atomsml.simulate.analysis.findings import Findings
from atomsml.simulate.analysis.motion import Motion

BROKEN = 1.5  # times its first length


def analyze(motion: Motion) -> Findings:
    """Of each kind of bond of the first frame: mean, spread and drift; and how many broke."""
    motion.require_frames(2)
    first = ase.Atoms(numbers=motion.numbers, positions=motion.positions[0], cell=motion.cell[0], pbc=motion.pbc)
    i, j, offsets = neighbor_list("ijS", first, [REACH * covalent_radii[n] for n in motion.numbers])
    once = (i < j) | ((i == j) & (offsets @ [9, 3, 1] > 0))
    i, j, offsets = i[once], j[once], offsets[once]
    if not len(i):
        raise ValueError("no two atoms of the first frame are bonded: none is within the sum of covalent radii")
    lengths = bond_lengths(motion.positions, motion.cell, i, j, offsets)
    kinds = np.sort(motion.numbers[np.stack([i, j])], axis=0)
    numbers: dict[str, float] = {}
    curves = dict(motion.axis)
    for a, b in np.unique(kinds, axis=1).T:
        name = f"{chemical_symbols[a]}-{chemical_symbols[b]}"
        of = lengths[:, (kinds[0] == a) & (kinds[1] == b)]
        numbers[f"{name} mean [A]"], numbers[f"{name} spread [A]"] = float(of.mean()), float(of.std())
        numbers[f"{name} drift [A]"] = drift(of.mean(axis=1))
        curves[f"{name} [A]"] = of.mean(axis=1)
    numbers["bonds"] = float(len(i))
    numbers["broken"] = float((lengths > BROKEN * lengths[0]).any(axis=0).sum())
    return Findings(numbers, {"bonds": curves})


def bond_lengths(
    positions: np.ndarray, cell: np.ndarray, i: np.ndarray, j: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    """(frames, bonds) A, between atoms i and the images of atoms j in cells (bonds, 3), always the same ones.

    Args:
        positions: (frames, atoms, 3) A, not wrapped.
        cell: (frames, 3, 3) A.
    """
    found: np.ndarray = np.linalg.norm(positions[:, j] + offsets @ cell - positions[:, i], axis=2)
    return found


def drift(values: np.ndarray) -> float:
    """By how much a straight line through a series rises from its first to its last value."""
    slope = np.polyfit(np.arange(len(values)), values, 1)[0]
    return float(slope * (len(values) - 1))
