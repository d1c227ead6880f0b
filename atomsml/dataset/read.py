"""Read labelled structures from any of the formats in which people keep them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atomsml.dataset.census import Census
from atomsml.dataset.columns import Columns, atomic_numbers, check_columns
from atomsml.dataset.dataset import Dataset
from atomsml.dataset.formats.frames import Frame, census_of, frames
from atomsml.dataset.formats.hdf5 import plain_blocks, plain_fields
from atomsml.dataset.formats.storage import StoredColumns, is_stored, stored_keys
from atomsml.dataset.labels import Found, LabelKeys, as_energy, as_forces, as_matrix, find_keys, stress_of_virial
from atomsml.io.formats.source import format_suffix
from atomsml.io.formats.table import format_name

BLOCK = 1000  # structures that are converted at a time
HDF5 = (".h5", ".hdf5")


def read_dataset(path: str | Path, keys: LabelKeys = LabelKeys()) -> Dataset:  # noqa: B008 (frozen)
    """Labelled structures of a file or folder: of any format that `atomsml.io.read` reads, or HDF5.

    `Dataset.found` says which keys the labels come from. See `find_keys` for how they are found.

    Raises:
        OSError: no such file.
        ValueError: an unknown format, a file that cannot be read or holds no structure, a key that no structure has,
            no energy at all, or a structure that no model can use.
    """
    path = Path(path)
    if format_suffix(path) in HDF5 and path.is_file() and is_stored(path):
        stored = StoredColumns(path)
        return Dataset([stored], [stored_keys(stored, keys)])
    found, blocks = open_blocks(path, keys)
    dataset = Dataset([Columns.concatenate(list(blocks))])
    return Dataset(dataset.sources, [found.counted(dataset.label_counts())])


def open_blocks(path: str | Path, keys: LabelKeys) -> tuple[Found, Iterator[Columns]]:
    """What a file holds, and its structures some at a time; errors as for `read_dataset`."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; check the path")
    suffix = format_suffix(path)
    if suffix in HDF5 and is_stored(path):
        stored = StoredColumns(path)
        dataset = Dataset([stored])
        return stored_keys(stored, keys), (columns for _, columns in dataset.blocks())
    if suffix in HDF5:
        present, structures = plain_fields(path)
        name, census = "HDF5", Census(keys)
    else:
        name, census = "folder" if path.is_dir() else format_name(path), census_of(path, keys)
        present, structures = census.present, census.structures
    if structures == 0:
        raise ValueError(f"{path}: holds no structure; check that it is complete")
    own = find_keys(present, structures, keys, str(path))
    found = Found(str(path), name, structures, dict(present), own, tuple(census.warnings(own)))
    blocks = plain_blocks(path, found.keys) if name == "HDF5" else _blocks(frames(path), found)
    return found, _checked(blocks, str(path))


def _checked(blocks: Iterator[Columns], path: str) -> Iterator[Columns]:
    start = 0
    for columns in blocks:
        check_columns(columns, path, start)
        yield columns
        start += len(columns)


def _blocks(frames: Iterator[Frame], found: Found) -> Iterator[Columns]:
    block: list[Frame] = []
    start = 0
    for frame in frames:
        block.append(frame)
        if len(block) == BLOCK:
            yield _columns(block, found, start)
            start += BLOCK
            block = []
    if block:
        yield _columns(block, found, start)


def _columns(frames: list[Frame], found: Found, start: int) -> Columns:
    keys = found.keys
    energy, forces, stress = [], [], []
    for i, frame in enumerate(frames, start):
        where, atoms, fields = f"{found.path}: structure {i} (counted from 0)", len(frame.numbers), frame.fields
        value = fields.get(keys.energy or "")
        energy.append(np.nan if value is None else as_energy(value, f"{where}, {keys.energy}"))
        value = fields.get(keys.forces or "")
        missing = np.full((atoms, 3), np.nan)
        forces.append(missing if value is None else as_forces(value, atoms, f"{where}, {keys.forces}"))
        key = keys.stress or keys.virial or ""
        value = fields.get(key)
        matrix = np.full((3, 3), np.nan) if value is None else as_matrix(value, f"{where}, {key}").reshape(3, 3)
        stress.append(stress_of_virial(matrix, frame.cell) if keys.virial else matrix)
    return Columns(
        num_atoms=np.array([len(frame.numbers) for frame in frames], dtype=np.int64),
        numbers=atomic_numbers(np.concatenate([frame.numbers for frame in frames])),
        positions=np.concatenate([frame.positions for frame in frames]).astype(np.float64),
        forces=np.concatenate(forces),
        cell=np.array([frame.cell for frame in frames], dtype=np.float64),
        pbc=np.array([frame.pbc for frame in frames], dtype=bool),
        energy=np.array(energy),
        stress=np.array(stress),
        config_types=_texts(frames, keys.config_type),
        groups=_texts(frames, keys.group),
    )


def _texts(frames: list[Frame], key: str | None) -> np.ndarray:
    texts = np.empty(len(frames), dtype=object)
    for i, frame in enumerate(frames):
        value = frame.fields.get(key or "")
        texts[i] = "" if value is None else str(value)
    return texts
