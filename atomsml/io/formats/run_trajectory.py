"""The HDF5 file of a run of molecular dynamics, as structures: the frames of all its systems, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from atomsml.io.formats.source import OPENERS, Source
from atomsml.io.records import Refused, StructureRecord, record_of

HDF5 = (".h5", ".hdf5")


def is_trajectory(path: Path) -> bool:
    """Whether a file that is there is one of a run, by its first bytes."""
    from atomsml.io.trajectory.committed_file import is_committed_file  # with h5py, which takes its time

    return path.is_file() and is_committed_file(path)


def read_trajectory(source: Source) -> Iterator[StructureRecord | Refused]:
    """Frames, read some at a time.

    Raises:
        ValueError: a file that is none of a run, compressed, or damaged.
    """
    from atomsml.io.trajectory import Trajectory

    if source.path.suffix.lower() in OPENERS:
        raise ValueError("an HDF5 file is compressed inside; unpack it")
    if not is_trajectory(source.path):
        raise ValueError("is no trajectory of atomsml; data sets in HDF5 are for train, evaluate and data")
    with Trajectory(source.path) as trajectory:
        for index, atoms in enumerate(itertools.chain.from_iterable(trajectory.systems)):
            yield record_of(source.name, index, atoms)
