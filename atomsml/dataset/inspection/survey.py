"""A few numbers about every structure of a dataset, from one pass over it: what `check.py` and tables are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.data import covalent_radii

from atomsml.dataset.columns import Columns
from atomsml.dataset.content import strain_families
from atomsml.dataset.dataset import Dataset
from atomsml.neighbors import neighbor_list

DECIMALS = range(2, 10)  # with which forces may have been printed


@dataclass(frozen=True)
class Survey:
    """One row for each structure; NaN where it has no such label."""

    max_force: np.ndarray  # (n,) eV/A, longest force vector
    mean_square_force: np.ndarray  # (n,) eV^2/A^2
    net_force: np.ndarray  # (n,) eV/A, length of the sum of the forces
    rounding: np.ndarray  # (n,) eV/A, net force that the printed digits of the forces explain
    incomplete_forces: np.ndarray  # (n,) bool, some components are there and some are not
    contact: np.ndarray  # (n,) smallest distance / (sum of both covalent radii) below 1/2; 1 where none is
    volume: np.ndarray  # (n,) A^3; NaN where not periodic along all axes
    family: np.ndarray  # (n,) uint64; equal where structures differ by a strain alone
    cell: np.ndarray  # (n, 3, 3) A
    stress: np.ndarray  # (n, 3, 3) eV/A^3


def survey(dataset: Dataset) -> Survey:
    """Go through all structures, a bounded number of atoms at a time."""
    parts = [_survey(columns) for _, columns in dataset.blocks(50_000)]
    return Survey(*(np.concatenate([getattr(part, name) for part in parts]) for name in Survey.__annotations__))


def _survey(columns: Columns) -> Survey:
    structures, structure = len(columns), columns.structure_of
    square = np.square(columns.forces).sum(axis=1)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(structure, values, minlength=structures)

    net = np.stack([total(columns.forces[:, axis]) for axis in range(3)], axis=1)
    unlabelled = total(np.isnan(square))
    max_force = np.sqrt(np.maximum.reduceat(square, columns.offsets[:-1]))
    periodic = np.all(columns.pbc, axis=1)
    return Survey(
        max_force=max_force,
        mean_square_force=total(square) / columns.num_atoms,
        net_force=np.linalg.norm(net, axis=1),
        # the sum of n errors, each even over the last digit (variance 1/12 of its square), three components; 6 sigma
        rounding=6 * _last_digit(columns, max_force) * np.sqrt(3 * columns.num_atoms / 12),
        incomplete_forces=columns.has_forces & (unlabelled > 0),
        contact=_contacts(columns),
        volume=np.where(periodic, np.abs(np.linalg.det(columns.cell)), np.nan),
        family=_families(columns, periodic),
        cell=columns.cell,
        stress=columns.stress,
    )


def _families(columns: Columns, periodic: np.ndarray) -> np.ndarray:
    """(n,) see Survey.family; 0 where there is no stress to compare or no full periodicity."""
    families = np.zeros(len(columns), dtype=np.uint64)
    rows = np.flatnonzero(columns.has_stress & periodic)
    some = columns.take(rows)
    families[rows] = strain_families(some.offsets, some.numbers, some.positions, some.cell, some.pbc)
    return families


def _last_digit(columns: Columns, max_force: np.ndarray) -> np.ndarray:
    """(n,) eV/A that one step in the last digit of a structure's forces is worth.

    Forces without a last decimal have been converted, and are as exact as float32 or float64.
    """
    forces = np.nan_to_num(columns.forces)
    single = forces.astype(np.float32).astype(np.float64) == forces
    exact = np.logical_and.reduceat(single.all(axis=1), columns.offsets[:-1])
    digit = np.nan_to_num(max_force) * np.where(exact, np.finfo(np.float32).eps, np.finfo(np.float64).eps)
    for decimals in reversed(DECIMALS):
        # what went through float32 is near, not on, the decimals that were printed
        near = np.abs(np.round(forces, decimals) - forces) <= (1.2e-7 if decimals <= 6 else 1e-15) * np.abs(forces)
        printed = np.logical_and.reduceat(near.all(axis=1), columns.offsets[:-1])
        digit = np.where(printed, np.maximum(10.0**-decimals, digit), digit)
    return digit


def _contacts(columns: Columns) -> np.ndarray:
    """(n,) smallest distance over the sum of the covalent radii of the pair, where that is below 1/2; otherwise 1."""
    radii = covalent_radii[columns.numbers]
    cutoff = float(radii.max())  # half the largest sum
    positions, cell = torch.as_tensor(columns.positions), torch.as_tensor(columns.cell)
    batch = torch.as_tensor(columns.structure_of)
    # this backend does not mind cutoffs that are small beside the box
    edge_index, offsets = neighbor_list(positions, cell, torch.as_tensor(columns.pbc), cutoff, batch, "torch")
    sender, receiver = edge_index.numpy()
    image = np.einsum("ei,eij->ej", offsets.numpy(), columns.cell[columns.structure_of[receiver]])
    distance = np.linalg.norm(columns.positions[sender] + image - columns.positions[receiver], axis=1)
    ratio = distance / (radii[sender] + radii[receiver])
    close = ratio < 0.5
    smallest = np.ones(len(columns))
    np.minimum.at(smallest, columns.structure_of[receiver[close]], ratio[close])
    return smallest
