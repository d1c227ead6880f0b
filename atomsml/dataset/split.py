"""Splits by hash: where a structure belongs follows from itself alone, never from its place in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import numpy as np

from atomsml.dataset.columns import Columns
from atomsml.dataset.dataset import Dataset

GRID = 1e-4  # A: geometries that agree within it count as one
SHIFT = 0.3819660112501051  # of a grid cell, irrational: decimals as people print them never lie on a boundary


def split(
    dataset: Dataset, fractions: Mapping[str, float], by: Literal["content", "group"] = "content"
) -> dict[str, Dataset]:
    """Parts of a dataset, of about these fractions, by hash of each structure's geometry or of its group's name.

    Reordering or extending the data never moves a structure from one part to another. Identical structures are always
    in the same part; with by="group" so is all that belongs to one trajectory or molecule.

    Raises:
        ValueError: fractions that are not positive or do not add up to 1, structures without a group, or a part that
            gets no structure.
    """
    if min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f"the fractions of a split must be positive and add up to 1, got {dict(fractions)}")
    hashes = group_hashes(dataset) if by == "group" else content_hashes(dataset)
    bounds = np.cumsum(list(fractions.values()))[:-1]
    part_of = np.searchsorted(bounds, hashes / 2.0**64, side="right")
    parts = {name: np.flatnonzero(part_of == i) for i, name in enumerate(fractions)}
    for name, indices in parts.items():
        if len(indices) == 0:
            what = f"{len(np.unique(hashes))} {'groups' if by == 'group' else 'different structures'}"
            raise ValueError(f"no structure falls into the part {name!r} ({fractions[name]:g} of {what}); enlarge it")
    return {name: dataset.subset(indices) for name, indices in parts.items()}


def group_hashes(dataset: Dataset) -> np.ndarray:
    """(n,) uint64 hash of each structure's group.

    Raises:
        ValueError: structures without a group.
    """
    names, group_of = np.unique(dataset.groups.astype(str), return_inverse=True)
    without = int((dataset.groups == "").sum())
    if without:
        raise ValueError(
            f"{without} of {len(dataset)} structures have no group to split by; name its key with --group-key, "
            "or split by content"
        )
    return np.array([_hash(name.encode()) for name in names], dtype=np.uint64)[group_of]


def content_hashes(dataset: Dataset) -> np.ndarray:
    """(n,) uint64 hash of each geometry: numbers, relative positions, and the cell along periodic axes.

    A structure that is shifted as a whole, or whose atoms are wrapped into the cell in another way, keeps its hash; one
    that is rotated or whose atoms are in another order does not. Labels do not count.
    """
    hashes = np.empty(len(dataset), dtype=np.uint64)
    for start, columns in dataset.blocks():
        hashes[start : start + len(columns)] = _geometry_hashes(columns)
    return hashes


def _geometry_hashes(columns: Columns) -> np.ndarray:
    structure = columns.structure_of
    relative = columns.positions - columns.positions[columns.offsets[:-1]][structure]
    periodic = columns.pbc[:, :, None]
    # open axes get directions of their own, so that every cell can be inverted
    cell = np.where(periodic, columns.cell, _complement(np.where(periodic, columns.cell, 0.0)))
    fractional = np.einsum("ai,aij->aj", relative, np.linalg.inv(cell)[structure])
    # the interval starts at no decimal or simple fraction, where atoms of crystals lie
    images = np.floor(fractional + SHIFT / 10) * columns.pbc[structure]
    grid = _on_grid(relative - np.einsum("aj,ajk->ak", images, cell[structure]))
    cells = _on_grid(np.where(periodic, columns.cell, 0.0)).reshape(len(columns), 9)
    hashes = np.empty(len(columns), dtype=np.uint64)
    for i, (first, last) in enumerate(zip(columns.offsets[:-1], columns.offsets[1:], strict=True)):
        parts = columns.numbers[first:last], grid[first:last], columns.pbc[i], cells[i]
        hashes[i] = _hash(b"".join(part.tobytes() for part in parts))
    return hashes


def _complement(cell: np.ndarray) -> np.ndarray:
    """Cells (n, 3, 3) whose rows of zeros are replaced by unit vectors normal to the other rows."""
    # the right singular vectors beyond the rank span what the rows do not
    _, _, directions = np.linalg.svd(cell)
    missing = ~cell.any(axis=2)
    rank = 3 - missing.sum(axis=1)
    position = np.cumsum(missing, axis=1) - 1 + rank[:, None]
    filled = np.take_along_axis(directions, np.clip(position, 0, 2)[:, :, None], axis=1)
    return np.where(missing[:, :, None], filled, cell)


def _on_grid(lengths: np.ndarray) -> np.ndarray:
    return np.floor(lengths / GRID + SHIFT).astype("<i4")


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
