"""Splits by hash: where a structure belongs follows from itself alone, never from its place in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from atomsml.dataset.content import hash_bytes
from atomsml.dataset.dataset import Dataset


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
    return np.array([hash_bytes(name.encode()) for name in names], dtype=np.uint64)[group_of]


def content_hashes(dataset: Dataset) -> np.ndarray:
    """(n,) uint64 hash of each geometry, see `geometry_hashes`. Labels do not count."""
    return dataset.content
