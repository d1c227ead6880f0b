"""Which inputs are one path."""

from __future__ import annotations

import ase
import pytest
from ase.build import molecule

from atomsml.cli.properties.paths.inputs import PathRecord, as_paths, files, pairs
from atomsml.io import Refused, StructureRecord

WATER = molecule("H2O")
A, B0, B1, BAD = (
    StructureRecord("a", 0, WATER),
    StructureRecord("b", 0, WATER),
    StructureRecord("b", 1, WATER),
    Refused("c", 0, "cannot be read"),
)


def needs_two(images: list[ase.Atoms]) -> None:
    if len(images) < 2:
        raise ValueError("is alone")


def test_two_by_two() -> None:
    first, last = as_paths(pairs([A, B0, B1]), needs_two)
    assert isinstance(first, PathRecord)
    assert (first.file, first.index, len(first.images)) == ("a", 0, 2)
    assert last == Refused("b", 1, "is alone")


def test_by_files() -> None:
    first, last = as_paths(files([A, B0, B1]), needs_two)
    assert first == Refused("a", 0, "is alone")
    assert isinstance(last, PathRecord)
    assert len(last.images) == 2


@pytest.mark.parametrize(
    ("group", "reason"),
    [([BAD, A], "cannot be read"), ([A, BAD], "its other structure is refused: c, frame 0: cannot be read")],
)
def test_with_one_that_cannot_be_read(group: list[StructureRecord | Refused], reason: str) -> None:
    [found] = as_paths([group], needs_two)
    assert isinstance(found, Refused)
    assert (found.file, found.reason) == (group[0].file, reason)
