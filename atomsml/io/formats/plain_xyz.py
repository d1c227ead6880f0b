"""How programs deviate from XYZ: atomic numbers, labels, isotopes, exponents of Mathematica; and QM9 as published."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ase.data import atomic_numbers, chemical_symbols

from atomsml.units import HARTREE

ISOTOPES = {"D": 2.01410177812, "T": 3.01604927791}  # masses of hydrogen, u (AME2020)
LABEL = re.compile(r"([A-Z][a-z]?|[a-z]{1,2}|[A-Z]{2})[_-]?\d+\w{0,3}[*'+]*")  # C1, Cl_2, H12A
# the properties of a line of QM9 after its number, with the factor to our units
# (Ramakrishnan et al., Sci. Data 1, 140022 (2014), table 3)
QM9 = {
    **dict.fromkeys(("A", "B", "C", "mu", "alpha"), 1.0),
    **dict.fromkeys(("homo", "lumo", "gap"), HARTREE),
    "r2": 1.0,
    **dict.fromkeys(("zpve", "U0", "U", "H", "G"), HARTREE),
    "Cv": 1.0,
}


def unusual(rows: Sequence[str], column: int) -> bool:
    """Whether the lines of a frame name an atom otherwise than by its symbol, or have exponents of Mathematica."""
    names = {words[column] for row in rows if len(words := row.split(maxsplit=column + 1)) > column}
    return not all(name.capitalize() in atomic_numbers for name in names) or any("*^" in row for row in rows)


def normal_lines(rows: Sequence[str], column: int) -> tuple[list[str], dict[int, float]]:
    """The lines with symbols of elements in a column and usual exponents, and the masses (u) of isotopes by atom.

    Raises:
        ValueError: a name that is no element; says on which line of the frame.
    """
    normal, masses = [], {}
    for i, row in enumerate(rows):
        words = row.replace("*^", "e").split()
        if len(words) <= column:
            raise ValueError(f"line {i + 3} has no atom")
        name = words[column]
        words[column] = _symbol(name, f"line {i + 3}")
        if name.upper() in ISOTOPES:
            masses[i] = ISOTOPES[name.upper()]
        normal.append(" ".join(words))
    return normal, masses


def _symbol(name: str, where: str) -> str:
    if name.upper() in ISOTOPES:
        return "H"
    if name.capitalize() in atomic_numbers:
        return name.capitalize()
    if name.isdecimal() and len(name) <= 3 and 0 < int(name) < len(chemical_symbols):
        return chemical_symbols[int(name)]
    label = LABEL.fullmatch(name)
    if label is not None and label[1].capitalize() in atomic_numbers:
        return label[1].capitalize()
    raise ValueError(f"{where}: {name!r} is no element; write its symbol")


def qm9_fields(comment: str, after: Sequence[str]) -> dict[str, float | str]:
    """Properties of a molecule of QM9: energies in eV, else as published; and its SMILES.

    Args:
        comment: the second line of a frame, `gdb 1 157.7 ...`.
        after: the lines after the atoms: frequencies, SMILES, InChI.

    Raises:
        ValueError: another number of properties.
    """
    numbers = comment.replace("*^", "e").split()[2:]
    if len(numbers) != len(QM9):
        raise ValueError(f"a molecule of QM9 has {len(QM9)} properties, its comment line has {len(numbers)}")
    fields: dict[str, float | str] = {
        name: factor * float(number) for (name, factor), number in zip(QM9.items(), numbers, strict=True)
    }
    if len(after) > 1 and after[1].split():
        fields["smiles"] = after[1].split()[0]  # of the molecule as it was before relaxation
    return fields
