"""LAMMPS data files, whose atoms are of elements only where masses or labels say so."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import ase
import numpy as np
from ase.data import atomic_masses

from atomsml.io.formats.ase_formats import one_line
from atomsml.io.formats.plain_xyz import ISOTOPES
from atomsml.io.formats.source import Source
from atomsml.io.records import Refused, StructureRecord, record_of

STATED_UNITS = re.compile(r"\bunits\s*=\s*(\w+)")
MASS_TOLERANCE = 0.3  # u: nickel and cobalt, which come nearest to each other, differ by 0.24


def read_lammps_data(source: Source) -> Iterator[StructureRecord | Refused]:
    """The structure of a LAMMPS data file, in the units that its first line states (as write_data does), or metal.

    Raises:
        ValueError: atom types of which nothing says what elements they are, or a file that cannot be read.
    """
    from ase.io.lammpsdata import read_lammps_data

    with source.open_text() as file:
        text = file.read()
    declared = re.search(r"(?m)^\s*(\d+)\s+atoms\b", text)
    if declared is None or int(declared[1]) > text.count("\n"):
        raise ValueError("declares no number of atoms, or more than it has lines; check that it is complete")
    if not re.search(r"(?m)^\s*(Masses|Atom Type Labels)\b", text):
        raise ValueError("has neither Masses nor Atom Type Labels, so that its types are no elements; add one")
    stated = STATED_UNITS.search(text.partition("\n")[0])
    units = stated[1] if stated else "metal"
    if units == "lj":
        raise ValueError("is in the reduced units lj, of no element; give one in metal or real units")
    try:
        atoms = read_lammps_data(io.StringIO(text), units=units)
    except Exception as error:  # ASE's readers raise anything
        raise ValueError(f"cannot be read ({one_line(error)}); check that it is complete") from error
    _check_masses(atoms)
    yield record_of(source.name, 0, atoms)


def _check_masses(atoms: ase.Atoms) -> None:
    """Refuse beads and united atoms, of which ASE makes the element of the nearest mass."""
    isotopes = np.array([atomic_masses[1], *ISOTOPES.values()])
    away = np.abs(atoms.get_masses() - atomic_masses[atoms.numbers])
    away = np.where(atoms.numbers == 1, np.abs(atoms.get_masses()[:, None] - isotopes).min(axis=1), away)
    if (away > MASS_TOLERANCE).any():
        first = int(np.argmax(away > MASS_TOLERANCE))
        raise ValueError(f"atom {first} has the mass {atoms.get_masses()[first]:g} u, which is of no element")
