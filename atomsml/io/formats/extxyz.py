"""XYZ and extended XYZ, frame by frame, whatever the case of the keys and however the atoms are named."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

import ase
import numpy as np

from atomsml.io.formats.plain_xyz import normal_lines, qm9_fields, unusual
from atomsml.io.formats.source import Source
from atomsml.io.formats.stated_units import in_our_units
from atomsml.io.records import Refused, StructureRecord, fields_of, record_of

QM9 = "gdb "  # how comment lines of QM9 begin
MOST_DIGITS = 12  # of a number of atoms
KEYS = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
COLUMNS = {"species": "species", "symbols": "species", "pos": "pos", "positions": "pos", "z": "Z", "numbers": "Z"}
# a frame that has one of these and no Lattice would be taken as open
OTHER_CELLS = ("cell", "box", "unit_cell", "unitcell", "cell_vectors", "lattice_vectors", "latticevectors")
UNQUOTED = re.compile(r"(?<!\S)(lattice|properties|pbc)(?=\s*=)", re.IGNORECASE)
MATRICES = re.compile(r"(?<!\S)(stress|virial)=")


def read_extxyz(source: Source) -> Iterator[StructureRecord | Refused]:
    """Frames of an XYZ or extended XYZ file; one that cannot be parsed is refused, one that is cut off ends the file.

    Units that keys such as `energy_unit` or `length_unit` state are obeyed.

    Raises:
        ValueError: no number of atoms where one must be, or a file that is cut off.
    """
    for index, (comment, text) in enumerate(extxyz_texts(source)):
        try:
            atoms, fields = _frame(comment, text)
            yield in_our_units(record_of(source.name, index, atoms, {**fields_of(atoms), **fields}))
        except Exception as error:  # ASE's readers raise anything
            known = isinstance(error, ValueError) and not isinstance(error, UnicodeError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            yield Refused(source.name, index, f"cannot be read ({reason}); correct or remove it")


def extxyz_texts(source: Source) -> Iterator[tuple[str, str]]:
    """(comment line, whole text) of each frame. No more memory is taken than the lines of a frame need.

    Raises:
        ValueError: no number of atoms where one must be, or fewer lines than it says.
    """
    with source.open_text() as file:
        frames = (line for line in file if line.strip())  # empty lines between frames
        for number, first in enumerate(frames):
            if not first.strip().isdecimal() or len(first.strip()) > MOST_DIGITS:
                raise ValueError(f"expected the number of atoms of frame {number}, got {first.strip()[:40]!r}")
            lines = [first, *itertools.islice(file, int(first) + 1)]
            if len(lines) < int(first) + 2:
                raise ValueError(f"frame {number} is cut off; check that the file is complete")
            if lines[1].startswith(QM9):  # QM9 as it was published: frequencies, SMILES and InChI follow
                lines += itertools.islice(file, 3)
            yield lines[1], "".join(lines)


def parse_comment(comment: str) -> dict[str, Any]:
    """Key-value pairs of a comment line, with `Lattice`, `Properties` and `pbc` in that case.

    A stress or virial may have six numbers too, which ASE refuses.
    """
    from ase.io.extxyz import key_val_str_to_dict

    comment = UNQUOTED.sub(lambda match: KEYS[match[1].lower()], comment)
    info = key_val_str_to_dict(MATRICES.sub(r"\1:=", comment))
    info = {key.removesuffix(":"): value for key, value in info.items()}
    if isinstance(info.get("Properties"), str):
        info["Properties"] = _columns(info["Properties"])
    return info


def comment_fields(comment: str) -> tuple[list[str], dict[str, Any]]:
    """Names of the columns, and what else a comment line says; of QM9 as it was published what its numbers mean.

    Raises:
        ValueError: a line that cannot be taken apart.
    """
    if comment.startswith(QM9):
        return ["mulliken_charges"], dict(qm9_fields(comment, ()))
    info = parse_comment(comment)
    return str(info.pop("Properties", "")).split(":")[::3], info


def _columns(properties: str) -> str:
    """`species:S:1:pos:R:3:...` with the names and letters that ASE knows."""
    words = properties.split(":")
    for i, name in enumerate(words[::3]):
        words[3 * i] = COLUMNS.get(name.lower(), name)
    words[1::3] = [letter.upper() for letter in words[1::3]]
    return ":".join(words)


def _frame(comment: str, text: str) -> tuple[ase.Atoms, dict[str, Any]]:
    """One frame, and what it says beyond the keys of its comment line."""
    lines = text.splitlines()
    atoms = int(lines[0])
    if comment.startswith(QM9):
        return _parse_qm9(lines, atoms)
    info = parse_comment(comment)
    _check_cell(info)
    _check_columns(str(info.get("Properties", "")), lines[2:])
    column = _species_column(info)
    if column is None or not unusual(lines[2:], column):
        return _parsed(text, info), {}
    rows, masses = normal_lines(lines[2:], column)
    image = _parsed("\n".join([*lines[:2], *rows]) + "\n", info)
    if not image.has("masses") and masses:
        image.set_masses([masses.get(i, mass) for i, mass in enumerate(image.get_masses())])
    return image, {}


def _parsed(text: str, info: dict[str, Any]) -> ase.Atoms:
    """Of a frame whose comment line has been taken apart."""
    from ase.io.extxyz import read_xyz

    # one frame at a time: ASE would stop at an empty line and drop the rest
    (atoms,) = read_xyz(io.StringIO(text), index=slice(None), properties_parser=lambda _: dict(info))
    return atoms


def _parse_qm9(lines: list[str], atoms: int) -> tuple[ase.Atoms, dict[str, Any]]:
    rows, _ = normal_lines(lines[2 : 2 + atoms], column=0)
    image = _parsed("\n".join([lines[0], "", *rows]) + "\n", {})
    charges = np.array([float(row.split()[4]) for row in rows])
    return image, {**qm9_fields(lines[1], lines[2 + atoms :]), "mulliken_charges": charges}


def _species_column(info: dict[str, Any]) -> int | None:
    """Which word of a line names the element; None where an atomic number does."""
    words = str(info.get("Properties", "species:S:1:pos:R:3")).split(":")
    column = 0
    for name, width in zip(words[::3], words[2::3], strict=False):
        if name == "species":
            return column
        column += int(width)
    return None


def _check_cell(info: dict[str, Any]) -> None:
    other = next((key for key in info if key.lower() in OTHER_CELLS), None)
    if other is not None and "Lattice" not in info:
        raise ValueError(f"its comment line has {other!r} but no Lattice; rename the nine numbers of the cell vectors")


def _check_columns(properties: str, rows: list[str]) -> None:
    """ASE takes memory for as many columns as are declared."""
    widths = properties.split(":")[2::3]
    declared = sum(int(width) for width in widths if width.isdecimal())
    if rows and declared > len(rows[0].split()):
        raise ValueError(f"Properties declares {declared} columns, its first atom has {len(rows[0].split())}")
