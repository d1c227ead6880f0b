"""Inputs that are paths: structures of which several are one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from atomsml.io.records import Refused, StructureRecord

if TYPE_CHECKING:
    import ase


@dataclass(frozen=True)
class PathRecord(StructureRecord):
    """A path, named by its first structure."""

    images: Sequence[ase.Atoms] = ()  # all of it, the first among them


def pairs(inputs: Sequence[StructureRecord | Refused]) -> list[list[StructureRecord | Refused]]:
    """Two by two."""
    return [list(inputs[i : i + 2]) for i in range(0, len(inputs), 2)]


def files(inputs: Sequence[StructureRecord | Refused]) -> list[list[StructureRecord | Refused]]:
    """All of a file."""
    return [list(group) for _, group in groupby(inputs, key=lambda each: each.file)]


def as_paths(
    groups: Sequence[Sequence[StructureRecord | Refused]], check: Callable[[Sequence[ase.Atoms]], object]
) -> list[StructureRecord | Refused]:
    """One record of each group; refused where one of its structures is, or where `check` raises a ValueError."""
    return [_as_path(group, check) for group in groups]


def _as_path(
    group: Sequence[StructureRecord | Refused], check: Callable[[Sequence[ase.Atoms]], object]
) -> StructureRecord | Refused:
    first = group[0]
    for each in group:
        if isinstance(each, Refused):
            where = "" if each is first else f"its other structure is refused: {each.file}, frame {each.index}: "
            return Refused(first.file, first.index, f"{where}{each.reason}")
    images = [each.atoms for each in group if isinstance(each, StructureRecord)]
    try:
        check(images)
    except ValueError as error:
        return Refused(first.file, first.index, str(error))
    return PathRecord(first.file, first.index or 0, images[0], images=images)
