"""Units that a file states: what they are in eV and A, and structures and labels brought to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import units

from atomsml.io.records import StructureRecord

# names of units as files write them, in lower case; powers and products are taken apart by `unit_factor`
FACTORS = {
    "1": 1.0,
    "ev": 1.0,
    "electronvolt": 1.0,
    "mev": 1e-3,
    "hartree": units.Hartree,
    "ha": units.Hartree,
    "eh": units.Hartree,
    "mha": 1e-3 * units.Hartree,
    "rydberg": units.Rydberg,
    "ry": units.Rydberg,
    "kcal": units.kcal,
    "cal": units.kcal / 1000,
    "kj": units.kJ,
    "mol": units.mol,
    "kcalmol": units.kcal / units.mol,
    "kjmol": units.kJ / units.mol,
    "a": 1.0,
    "ang": 1.0,
    "angstrom": 1.0,
    "angstroms": 1.0,
    "å": 1.0,
    "bohr": units.Bohr,
    "a0": units.Bohr,
    "nm": units.nm,
    "gpa": units.GPa,
    "mpa": units.GPa / 1000,
    "kbar": 0.1 * units.GPa,
    "kb": 0.1 * units.GPa,
    "bar": units.bar,
    "pa": units.Pascal,
    "d": units.Debye,
    "debye": units.Debye,
    "e": 1.0,
}
LENGTHS = ("length", "distance", "position", "positions", "pos", "coordinates", "r")
STATEMENT = re.compile(r"(?i)(?P<what>\w*?)_?units?$")
OURS = ("ev", "ase", "metal")
DERIVED = ("force", "forces", "stress", "virial", "virials")  # of an energy


def unit_factor(unit: str) -> float:
    """What one `unit` is in eV, A, e and their products: kcal/mol is 0.0434, Hartree/Bohr 51.4 eV/A.

    Powers are written with ^ or ** or a number (A^3, a0**3, Ang3), products with a blank, * or .

    Raises:
        ValueError: a name that is not known.
    """
    factor, sign = 1.0, 1
    for word in re.findall(r"/|[^\s/*·()]+", unit.strip().replace("**", "^")):
        if word == "/":
            sign = -1
            continue
        name, power = _power(word)
        if name not in FACTORS:
            raise ValueError(f"the unit {unit!r} is not known; convert to eV and A")
        factor *= FACTORS[name] ** (sign * power)
    return factor


def _power(word: str) -> tuple[str, int]:
    """`Ang^3`, `a0^3`, `A3` and `mol^-1` taken apart."""
    name = word.lower()
    if name in FACTORS:
        return name, 1
    match = re.fullmatch(r"(.*?)\^?(-?\d)", name)
    return (match[1], int(match[2])) if match else (name, 1)


def in_our_units(record: StructureRecord, stated: Mapping[str, str] | None = None) -> StructureRecord:
    """A record whose labels and geometry are in eV and A, where it says that they are in others.

    Args:
        stated: units by the name of a field, or "length"; without it those that fields such as `energy_unit`,
            `forces_units` or `length_unit` state.

    Raises:
        ValueError: a unit that is not known, or one of which it is not said what it is of.
    """
    found = _statements(record.fields) if stated is None else dict(stated)
    factors = {what: unit_factor(unit) for what, unit in found.items()}
    if all(factor == 1 for factor in factors.values()):
        return record
    atoms, fields, done = record.atoms, dict(record.fields), set()
    for what, factor in factors.items():
        if what.lower() in LENGTHS:
            atoms.set_cell(factor * atoms.cell.array)
            atoms.positions *= factor
        for name in _named(what, fields):
            done.add(name)
            fields[name] = factor * np.asarray(fields[name], float)[()]
            if atoms.calc is not None and name in atoms.calc.results:
                atoms.calc.results[name] = fields[name]
    unsaid = sorted({name for what in DERIVED for name in _named(what, fields)} - done)
    if unsaid:
        raise ValueError(f"says the unit of {' and '.join(found)} but not of {' and '.join(unsaid)}; name them all")
    return StructureRecord(record.file, record.index, atoms, fields)


def _named(what: str, fields: Mapping[str, Any]) -> list[str]:
    """Fields that a statement about `what` is of: of that name, whatever stands before (REF_energy) and its plural."""
    names = {what.lower(), f"{what.lower()}s", what.lower().removesuffix("s")}
    ends = [name for name in fields if name.lower() in names or name.lower().rpartition("_")[2] in names]
    return [name for name in ends if _is_number(fields[name])]


def _is_number(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind in "fiu"
    except ValueError:  # a ragged list
        return False


def _statements(fields: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in fields.items():
        match = STATEMENT.fullmatch(key)
        if match is None or not isinstance(value, str):
            continue
        if not match["what"] and value.lower() not in OURS:
            raise ValueError(f"says {key}={value} and not of what; name it, as in energy_unit={value}")
        if match["what"].lower() in LENGTHS or (match["what"] and _named(match["what"], fields)):
            found[match["what"]] = value
    return found
