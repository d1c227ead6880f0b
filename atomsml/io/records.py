"""One structure of a file, or why there is none; and what a structure must have to be treated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ase
import numpy as np

from atomsml.electronic_state import CHARGE_KEYS, SPIN_KEYS
from atomsml.errors import one_line
from atomsml.io.convert import independent

PARTIAL = 0.999  # a site with less is partly occupied
FARTHEST = 1e8  # A, of a coordinate or a component of a cell vector: a centimetre


@dataclass(frozen=True)
class StructureRecord:
    """One structure of the input, and where it came from.

    `atoms.info` has what the file states about the whole: "charge" (int, e) and "spin" (multiplicity 2S + 1, int) where
    it states them, and for formats that have bonds "bonds", an integer array (bonds, 3) of two atoms and the order: 1
    single, 2 double, 3 triple, 4 aromatic. Formal charges are the initial charges of the atoms, masses of isotopes
    their masses.
    """

    file: str  # path, or the SMILES string
    index: int  # number of the structure within the file, counted from 0
    atoms: ase.Atoms
    # everything that the file says about the structure and its atoms, under its own keys: labels, names
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A structure of the input that cannot be treated, and why."""

    file: str
    index: int | None  # None where it is the whole file, or the rest of it
    reason: str

    def __str__(self) -> str:
        where = self.file if self.index is None else f"{self.file}, frame {self.index}"
        return one_line(f"{where}: {self.reason}")


def record_of(file: str, index: int, atoms: ase.Atoms, fields: Mapping[str, Any] | None = None) -> StructureRecord:
    """A record of Atoms; without `fields` those of `fields_of`. What they state about charge and spin goes to info."""
    found = fields_of(atoms) if fields is None else fields
    said = {**found, **atoms.info}
    for name, keys in (("charge", CHARGE_KEYS), ("spin", SPIN_KEYS)):
        value = next((said[key] for key in keys if isinstance(said.get(key), int | float | np.number)), None)
        if value is not None and np.isfinite(value):
            atoms.info[name] = int(value) if float(value).is_integer() else float(value)
    return StructureRecord(file, index, atoms, found)


def fields_of(atoms: ase.Atoms) -> dict[str, Any]:
    """What Atoms carry beyond their geometry: results of a calculator, arrays and info."""
    results = {} if atoms.calc is None else atoms.calc.results
    arrays = {name: value for name, value in atoms.arrays.items() if name not in ("numbers", "positions")}
    return {**results, **arrays, **atoms.info}


def check_structure(atoms: ase.Atoms, where: str) -> None:
    """Refuse a structure that has no energy: `where` names it in the message.

    Raises:
        ValueError: no atoms, an unknown element, partly occupied sites, a position or cell vector that is not finite
            or beyond FARTHEST, or periodic axes without independent cell vectors.
    """
    reason = fault(atoms)
    if reason is not None:
        raise ValueError(f"{where}: {reason}")


def fault(atoms: ase.Atoms) -> str | None:
    """What `check_structure` finds wrong; None where nothing is."""
    if len(atoms) == 0:
        return "has no atoms; remove it from the input"
    unknown = np.flatnonzero((atoms.numbers <= 0) | (atoms.numbers > 118))
    if len(unknown):
        number = atoms.numbers[unknown[0]]
        return f"atom {unknown[0]} is of no known element ({number if number else 'X'}); give it one"
    occupancy = atoms.info.get("occupancy")  # ASE's CIF reader keeps the major species and notes the rest here
    parts = [part for site in occupancy.values() for part in site.values()] if isinstance(occupancy, dict) else []
    if any(not isinstance(part, int | float) for part in parts):
        return "has a site whose occupancy is no number; correct it"
    if any(not part >= PARTIAL for part in parts):
        return "has partly occupied sites; make an ordered structure first"
    broken = np.flatnonzero(~near(atoms.positions).all(axis=1))
    if len(broken):
        return f"the position of atom {broken[0]} is not finite, or beyond {FARTHEST:g} A; correct it"
    if not near(atoms.cell.array).all():
        return f"the cell is not finite, or beyond {FARTHEST:g} A; correct it"
    if not independent(atoms.cell.array[atoms.pbc]):
        return "periodic, but its cell is singular; give independent cell vectors or set pbc to False"
    return None


def near(coordinates: np.ndarray) -> np.ndarray:
    """Which coordinates are finite and not beyond FARTHEST, bool of the same shape."""
    return np.abs(coordinates) <= FARTHEST
