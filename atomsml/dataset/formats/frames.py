"""Structures one after the other, with everything that a file says about them, from any format of `atomsml.io.read`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomsml.dataset.census import COLUMN, Census
from atomsml.dataset.labels import LabelKeys
from atomsml.io import Refused, read_records
from atomsml.io.formats.extxyz import comment_fields, extxyz_texts
from atomsml.io.formats.source import DAMAGED, Source
from atomsml.io.formats.table import format_name

GEOMETRY = ("", "Lattice", "pbc", "species", "pos", "Z")  # keys and columns that are no label


@dataclass(frozen=True)
class Frame:
    """One structure, and everything a file says about it under the file's own keys."""

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    fields: Mapping[str, Any]


def frames(path: Path) -> Iterator[Frame]:
    """The structures of a file, or of all files of a folder.

    Raises:
        ValueError: a structure that cannot be read or treated; says which.
    """
    for record in read_records([str(path)]):
        if isinstance(record, Refused):
            raise ValueError(str(record))
        atoms = record.atoms
        yield Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, record.fields)


def census_of(path: Path, asked: LabelKeys) -> Census:
    """Which keys the structures carry; of extended XYZ only the comment lines are read.

    Raises:
        ValueError: as `frames`.
    """
    census = Census(asked)
    if path.is_file() and format_name(path) == "extxyz":
        try:
            for fields in _commented(path):
                census.add(fields)
        except (ValueError, *DAMAGED) as error:
            raise ValueError(f"{path}: {error}") from None
        return census
    for frame in frames(path):
        census.add(frame.fields)
    return census


def _commented(path: Path) -> Iterator[dict[str, Any]]:
    for index, (comment, _) in enumerate(extxyz_texts(Source(path))):
        try:
            columns, info = comment_fields(comment)
        except ValueError as error:
            raise ValueError(f"the comment line of frame {index} cannot be read ({error})") from error
        fields = {**dict.fromkeys(columns, COLUMN), **info}
        yield {name: value for name, value in fields.items() if name not in GEOMETRY}
