"""Columns: labelled structures as flat arrays, the form in which they are read, stored and joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from atomsml.dataset.content import geometry_hashes
from atomsml.io.records import FARTHEST, near

LARGEST_LABEL = 1e12  # eV, eV/A or eV/A^3: no system has more, and squares of it are far from the largest float64

MULTIPOLES: dict[str, tuple[Literal["atom", "structure"], tuple[int, ...]]] = {
    "charges": ("atom", ()),
    "dipole": ("structure", (3,)),
    "quadrupole": ("structure", (3, 3)),
}
"""Labels that few sets have: what has a row, and the shape of a row."""


@dataclass(frozen=True, eq=False)
class Columns:
    """n structures in memory; the atoms of each follow those of the one before. A label that is missing is NaN.

    | field | shape | meaning |
    |---|---|---|
    | num_atoms | (n,) | atoms of each structure, int64 |
    | numbers | (atoms,) | atomic numbers, uint8 |
    | positions | (atoms, 3) | A, float64 |
    | forces | (atoms, 3) | eV/A, float64 |
    | cell, pbc | (n, 3, 3), (n, 3) | rows are lattice vectors, A; periodic or not |
    | energy | (n,) | eV |
    | stress | (n, 3, 3) | eV/A^3, tension positive |
    | config_types, groups | (n,) | str, "" where none |
    | multipoles | | those of MULTIPOLES that any structure has: charges (e), dipole (e A), quadrupole (e A^2) |
    """

    num_atoms: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    forces: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    energy: np.ndarray
    stress: np.ndarray
    config_types: np.ndarray
    groups: np.ndarray
    multipoles: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.num_atoms)

    @cached_property
    def offsets(self) -> np.ndarray:
        """(n + 1,) first atom of each structure, and the number of atoms at the end."""
        return np.concatenate([[0], np.cumsum(self.num_atoms)]).astype(np.int64)

    @cached_property
    def structure_of(self) -> np.ndarray:
        """(atoms,) structure of each atom."""
        return np.repeat(np.arange(len(self)), self.num_atoms)

    @cached_property
    def has_forces(self) -> np.ndarray:
        """(n,) whether any atom of a structure has a force."""
        labelled = ~np.isnan(self.forces).all(axis=1)
        return np.bincount(self.structure_of[labelled], minlength=len(self)) > 0

    @cached_property
    def has_stress(self) -> np.ndarray:
        """(n,) whether any component of the stress is there, and a cell with a volume, without which it is not used."""
        cell = self.pbc.any(axis=1) & (np.abs(np.linalg.det(self.cell)) > 0)
        return cell & ~np.isnan(self.stress).all(axis=(1, 2))

    @cached_property
    def has_multipoles(self) -> dict[str, np.ndarray]:
        """(n,) whether a structure, or any atom of it, has such a label; of labels that some have."""
        return labelled(self.multipoles, self.offsets)

    @cached_property
    def content(self) -> np.ndarray:
        """(n,) uint64 hash of each geometry."""
        return geometry_hashes(self.offsets, self.numbers, self.positions, self.cell, self.pbc)

    def numbers_of(self, rows: np.ndarray) -> np.ndarray:
        """(atoms of these rows,) atomic numbers alone."""
        return self.numbers[atoms_of(self.offsets, rows)]

    def take(self, rows: np.ndarray) -> Columns:
        """Copies of the structures `rows`, in that order."""
        atoms = atoms_of(self.offsets, rows)
        return Columns(
            num_atoms=self.num_atoms[rows],
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            forces=self.forces[atoms],
            cell=self.cell[rows],
            pbc=self.pbc[rows],
            energy=self.energy[rows],
            stress=self.stress[rows],
            config_types=self.config_types[rows],
            groups=self.groups[rows],
            multipoles={n: x[atoms if MULTIPOLES[n][0] == "atom" else rows] for n, x in self.multipoles.items()},
        )

    @staticmethod
    def concatenate(parts: Sequence[Columns]) -> Columns:
        if len(parts) == 1:
            return parts[0]
        names = [name for name in Columns.__annotations__ if name != "multipoles"]
        there = [name for name in MULTIPOLES if any(name in part.multipoles for part in parts)]
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        multipoles = {name: np.concatenate([part.multipole(name) for part in parts]) for name in there}
        return Columns(**joined, multipoles=multipoles)

    def multipole(self, name: str) -> np.ndarray:
        """(atoms or n, ...); NaN where there is none."""
        level, shape = MULTIPOLES[name]
        rows = len(self.numbers) if level == "atom" else len(self)
        return self.multipoles[name] if name in self.multipoles else np.full((rows, *shape), np.nan)


def labelled(multipoles: Mapping[str, np.ndarray], offsets: np.ndarray) -> dict[str, np.ndarray]:
    """`Columns.has_multipoles` of arrays that are in no columns yet."""
    found = {}
    for name, values in multipoles.items():
        there = ~np.isnan(values.reshape(len(values), -1)).any(axis=1)
        if MULTIPOLES[name][0] == "atom":
            there = np.diff(np.concatenate([[0], np.cumsum(there)])[offsets]) > 0
        if there.any():
            found[name] = there
    return found


def atomic_numbers(values: np.ndarray) -> np.ndarray:
    """uint8; 0, which `check_columns` refuses, for what is no element."""
    return np.where((values >= 1) & (values <= 118), values, 0).astype(np.uint8)


def atoms_of(offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Indices of the atoms of structures `rows`, structure after structure."""
    counts = offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(counts)
    return np.repeat(offsets[rows] - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def check_columns(columns: Columns, where: str, start: int = 0) -> None:
    """Refuse structures that no model can use; `start` is the number of the first one in the file `where`.

    Raises:
        ValueError: no atoms, no known element, a position or cell that is not finite, a label beyond LARGEST_LABEL, or
            periodic axes without independent cell vectors.
    """
    lengths = np.linalg.norm(columns.cell, axis=2, keepdims=True)
    # open axes count as orthogonal to the rest; the determinant of a Gram matrix is the squared sine of an angle
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.nan_to_num(columns.cell / lengths) * columns.pbc[:, :, None]
    gram = np.einsum("nij,nkj->nik", unit, unit)
    gram[:, range(3), range(3)] += ~columns.pbc
    per_atom = {
        "an atom of no known element": columns.numbers == 0,
        f"a position that is not finite, or beyond {FARTHEST:g} A": ~near(columns.positions).all(axis=1),
        f"a force beyond {LARGEST_LABEL:g} eV/A": (np.abs(columns.forces) > LARGEST_LABEL).any(axis=1),
    }
    per_structure = {
        "no atoms": columns.num_atoms == 0,
        f"a cell that is not finite, or beyond {FARTHEST:g} A": ~near(columns.cell).all(axis=(1, 2)),
        f"an energy beyond {LARGEST_LABEL:g} eV": np.abs(columns.energy) > LARGEST_LABEL,
        f"a stress beyond {LARGEST_LABEL:g} eV/A^3": (np.abs(columns.stress) > LARGEST_LABEL).any(axis=(1, 2)),
        "periodic axes but a singular cell": np.linalg.det(gram) < 1e-12,
    }
    for name, values in columns.multipoles.items():
        table = per_atom if MULTIPOLES[name][0] == "atom" else per_structure
        table[f"a label {name} beyond {LARGEST_LABEL:g}"] = (
            (np.abs(values) > LARGEST_LABEL).reshape(len(values), -1).any(1)
        )
    for what, broken in per_atom.items():
        per_structure[what] = np.bincount(columns.structure_of[broken], minlength=len(columns)) > 0
    for what, bad in per_structure.items():
        if bad.any():
            first = start + int(np.flatnonzero(bad)[0])
            raise ValueError(f"{where}: structure {first} (counted from 0) has {what}; correct or remove it")
