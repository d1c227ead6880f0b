"""Sizes that files declare, checked before ASE makes room for whatever they are."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

HEADER = struct.Struct("<8s16s3q")  # what it is, a tag, version, number of items, place of their offsets
MAGIC = (b"- of Ulm", b"AFFormat")


def check_json(value: Any) -> None:
    """Refuse JSON with arrays, {"__ndarray__": [shape, type, list]}, whose shapes do not fit their lists.

    Raises:
        ValueError: names the shape.
    """
    for shape, kind, numbers in _within(value, "__ndarray__"):
        held = len(numbers) // (2 if np.dtype(kind).kind == "c" else 1)
        if math.prod(shape) != held:
            raise ValueError(f"declares an array of shape {shape}, of {held} numbers")


def check_poscar(path: Path) -> None:
    """Refuse a POSCAR or XDATCAR with more atoms than bytes; their numbers stand on the sixth or the seventh line.

    Raises:
        ValueError: says how many atoms there are to be.
    """
    size = path.stat().st_size
    with path.open(encoding="latin-1") as file:
        lines = [file.readline() for _ in range(7)]
    for line in lines[5:]:
        atoms = sum(int(word) for word in line.partition("!")[0].split() if word.isdecimal())
        _require(atoms <= size, f"{atoms} atoms", size)


def check_ulm(path: Path) -> None:
    """Refuse a trajectory that declares more than it holds. ULM is the container of ASE's trajectories.

    An item is the length of a JSON text and the text, in which an array is {"ndarray": [shape, type, place]}.

    Raises:
        ValueError: more items, longer texts, or larger arrays than the file has bytes.
        struct.error: a file that ends too early.
    """
    size, declared = path.stat().st_size, 0
    with path.open("rb") as file:
        magic, _, _, count, place = HEADER.unpack(file.read(HEADER.size))
        if magic not in MAGIC:
            raise ValueError("no trajectory of ASE")
        for offset in _integers(file, place, count, size):
            (length,) = _integers(file, offset, 1, size)
            _require(0 <= length <= size, f"a text of {length} bytes", size)
            item = json.loads(file.read(length))
            check_json(item)
            for shape, kind, _ in _within(item, "ndarray"):
                declared += math.prod(shape) * np.dtype(kind).itemsize
                _require(min(shape, default=0) >= 0 and declared <= size, f"an array of shape {shape}", size)


def _integers(file: BinaryIO, place: int, count: int, size: int) -> tuple[int, ...]:
    """`count` numbers of 8 bytes at a place of the file."""
    _require(0 <= place <= size and 0 <= count <= size // 8, f"{count} numbers at byte {place}", size)
    file.seek(place, os.SEEK_SET)
    return struct.unpack(f"<{count}q", file.read(8 * count))


def _within(value: Any, key: str) -> Iterator[Any]:
    """What stands under a key anywhere within a JSON value."""
    if isinstance(value, dict) and key in value:
        yield value[key]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(inner, dict | list):
            yield from _within(inner, key)


def _require(fits: bool, what: str, size: int) -> None:
    if not fits:
        raise ValueError(f"declares {what}, in a file of {size} bytes")
