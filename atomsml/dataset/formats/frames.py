"""The formats that hold one structure after the other: extended XYZ, ASE databases, JSON of pymatgen."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import lzma
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from atomsml.dataset.census import COLUMN, Census
from atomsml.dataset.labels import LabelKeys

OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
GEOMETRY = ("", "Lattice", "pbc", "species", "pos", "Z")  # keys and columns that are no label
MOST_DIGITS = 12  # of a number of atoms


@dataclass(frozen=True)
class Frame:
    """One structure, and everything a file says about it under the file's own keys."""

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    fields: dict[str, Any]


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """A text file, compressed or not; what is no such file becomes a ValueError."""
    try:
        with OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
            yield file
    except (UnicodeDecodeError, EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: cannot be read ({error}); check that it is complete") from error


def extxyz_census(path: Path, asked: LabelKeys) -> Census:
    """Which keys the frames carry; reads only the comment lines."""
    census = Census(asked)
    for comment, _ in _extxyz_texts(path):
        info = _parse_comment(comment, path, census.structures)
        columns = dict.fromkeys(str(info.pop("Properties", "")).split(":")[::3], COLUMN)
        fields = {**columns, **info}
        census.add({name: value for name, value in fields.items() if name not in GEOMETRY})
    return census


def extxyz_frames(path: Path) -> Iterator[Frame]:
    """Frames of an extended XYZ file, each parsed by ASE.

    Raises:
        ValueError: a frame that cannot be parsed, or that is cut off.
    """
    from ase.io.extxyz import read_xyz

    for index, (_, text) in enumerate(_extxyz_texts(path)):
        try:
            # one frame at a time: ASE would stop at an empty line and drop the rest
            (atoms,) = read_xyz(io.StringIO(text), index=slice(None), properties_parser=_parse)
        except Exception as error:  # ASE's readers raise anything
            raise ValueError(f"{path}: frame {index} cannot be read ({type(error).__name__}: {error})") from error
        yield _frame(atoms)


def _extxyz_texts(path: Path) -> Iterator[tuple[str, str]]:
    """(comment line, whole text) of each frame."""
    with _open_text(path) as file:
        frames = (line for line in file if line.strip())  # empty lines between frames
        for number, first in enumerate(frames):
            if not first.strip().isdecimal() or len(first.strip()) > MOST_DIGITS:
                raise ValueError(f"{path}: expected the number of atoms of frame {number}, got {first.strip()[:40]!r}")
            atoms = int(first)
            lines = [first, *itertools.islice(file, atoms + 1)]
            if len(lines) < atoms + 2:
                raise ValueError(f"{path}: frame {number} is cut off; check that the file is complete")
            yield lines[1], "".join(lines)


def _parse(comment: str) -> dict[str, Any]:
    """Key-value pairs of a comment line; a stress or virial may have six numbers too, which ASE refuses."""
    from ase.io.extxyz import key_val_str_to_dict

    info = key_val_str_to_dict(re.sub(r"(?<!\S)(stress|virial)=", r"\1:=", comment))
    return {key.removesuffix(":"): value for key, value in info.items()}


def _parse_comment(comment: str, path: Path, frame: int) -> dict[str, Any]:
    try:
        return _parse(comment)
    except ValueError as error:
        raise ValueError(f"{path}: the comment line of frame {frame} cannot be read ({error})") from error


def database_frames(path: Path) -> Iterator[Frame]:
    """Rows of an ASE database: results, key-value pairs and data are all fields.

    Raises:
        ValueError: a file that is no such database.
    """
    from ase.db import connect

    try:
        for row in connect(path, type="db").select():
            frame = _frame(row.toatoms())
            yield Frame(
                frame.numbers,
                frame.positions,
                frame.cell,
                frame.pbc,
                {**frame.fields, **row.data, **row.key_value_pairs},
            )
    except Exception as error:  # sqlite3 and ASE raise anything
        raise ValueError(f"{path}: cannot be read as an ASE database ({type(error).__name__}: {error})") from error


def _frame(atoms: Any) -> Frame:
    """Of ASE Atoms; results of a calculator are fields as well."""
    results = {} if atoms.calc is None else atoms.calc.results
    arrays = {name: value for name, value in atoms.arrays.items() if name not in ("numbers", "positions")}
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, {**results, **arrays, **atoms.info})


def json_frames(path: Path) -> Iterator[Frame]:
    """Records of a JSON list, each with a pymatgen structure under `structure`, or ComputedStructureEntry dicts.

    Fields are the other keys of the record, what is under `data`, and properties of the structure and its sites.

    Raises:
        ValueError: another content.
    """
    from pymatgen.core import Structure

    try:
        with _open_text(path) as file:
            records = json.load(file)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: is not JSON ({error}); check that it is complete") from error
    if not isinstance(records, list):
        raise ValueError(f"{path}: must hold a list of records, each with a structure; got {type(records).__name__}")
    for index, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get("structure"), dict):
            raise ValueError(f"{path}: record {index} has no pymatgen structure under 'structure'")
        try:
            structure = Structure.from_dict(record["structure"])
            numbers = np.array([site.specie.Z for site in structure])
        except Exception as error:  # pymatgen raises anything
            raise ValueError(
                f"{path}: the structure of record {index} cannot be read ({type(error).__name__}: {error})"
            ) from error
        data = record.get("data")
        known = {key: value for key, value in record.items() if key not in ("structure", "data") and key[:1] != "@"}
        fields = {
            **structure.properties,
            **structure.site_properties,
            **(data if isinstance(data, dict) else {}),
            **known,
        }
        lattice = structure.lattice
        yield Frame(numbers, structure.cart_coords.reshape(-1, 3), lattice.matrix, np.array(lattice.pbc), fields)
