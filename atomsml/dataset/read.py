"""Read labelled structures from any of the formats in which people keep them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atomsml.dataset.census import COLUMN, Census
from atomsml.dataset.columns import LARGEST_LABEL, MULTIPOLES, Columns, atomic_numbers, check_columns
from atomsml.dataset.dataset import Dataset
from atomsml.dataset.formats.hdf5 import plain_blocks, plain_fields, plain_states
from atomsml.dataset.formats.storage import StoredColumns, is_stored, stored_keys
from atomsml.dataset.labels import (
    Found,
    LabelKeys,
    as_energy,
    as_forces,
    as_matrix,
    as_multipole,
    find_keys,
    stress_of_virial,
)
from atomsml.io.files import read_records
from atomsml.io.formats.extxyz import comment_fields, extxyz_texts
from atomsml.io.formats.run_trajectory import HDF5, is_trajectory
from atomsml.io.formats.source import DAMAGED, Source, format_suffix
from atomsml.io.formats.table import format_name
from atomsml.io.records import Refused, StructureRecord

BLOCK = 1000  # structures that are converted at a time
GEOMETRY = ("", "Lattice", "pbc", "species", "pos", "Z")  # keys and columns of extended XYZ that are no label


def read_dataset(
    path: str | Path,
    keys: LabelKeys = LabelKeys(),  # noqa: B008 (frozen)
    refused: list[Refused] | None = None,
) -> Dataset:
    """Labelled structures of a file: HDF5, or whatever `atomsml.io.read` reads, such as extended XYZ, databases, JSON.

    `Dataset.found` says which keys the labels come from. See `find_keys` for how they are found.

    Args:
        refused: takes the structures that cannot be used, while the others are read; without it the first one is an
            error. A damaged HDF5 file is an error in any case.

    Raises:
        OSError: no such file.
        ValueError: a file that cannot be read or holds no structure, a key that no structure has, no label at all, or
            a structure that no model can use.
    """
    path = Path(path)
    if path.is_file() and _holds_dataset(path) and is_stored(path):
        stored = StoredColumns(path)
        return Dataset([stored], [stored_keys(stored, keys)])
    found, blocks = open_blocks(path, keys, refused)
    parts = list(blocks)
    if not parts:
        raise ValueError(f"{path}: has no structure that can be used{'' if not refused else f'; {refused[0]}'}")
    dataset = Dataset([Columns.concatenate(parts)])
    return Dataset(dataset.sources, [found.counted(len(dataset), dataset.label_counts())])


def open_blocks(
    path: str | Path, keys: LabelKeys, refused: list[Refused] | None = None
) -> tuple[Found, Iterator[Columns]]:
    """What a file holds, and its structures some at a time; arguments and errors as for `read_dataset`."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; check the path")
    holds_dataset = _holds_dataset(path)
    if holds_dataset and is_stored(path):
        stored = StoredColumns(path)
        return stored_keys(stored, keys), (columns for _, columns in Dataset([stored]).blocks())
    if holds_dataset:
        present, structures = plain_fields(path)
        own, states = find_keys(present, structures, keys, str(path)), tuple(plain_states(path).items())
        found = Found(str(path), "HDF5", structures, dict(present), own, states=states)
        return found, _checked(plain_blocks(path, found.keys), str(path))
    name = "folder" if path.is_dir() else format_name(path) or "unknown"
    census = _extxyz_census(path, keys) if name == "extxyz" else _census(path, keys)
    own = find_keys(census.present, census.structures, keys, str(path))
    warnings, states = tuple(census.warnings(own)), tuple(census.states.items())
    found = Found(str(path), name, census.structures, dict(census.present), own, warnings, states)
    return found, _blocks(path, found, refused)


def _holds_dataset(path: Path) -> bool:
    return format_suffix(path) in HDF5 and not is_trajectory(path)


def _census(path: Path, keys: LabelKeys) -> Census:
    """Which keys the structures carry.

    Raises:
        ValueError: no structure can be read; the reason of the first.
    """
    census, first = Census(keys), None
    for record in read_records([str(path)]):
        if isinstance(record, StructureRecord):
            census.add(record.fields)
        else:
            first = first or record
    if census.structures == 0:
        raise ValueError(str(first))
    return census


def _extxyz_census(path: Path, keys: LabelKeys) -> Census:
    """The same from the comment lines alone, which is far quicker; whatever else is wrong shows when it is read."""
    census, texts = Census(keys), extxyz_texts(Source(path))
    try:
        for comment, _ in texts:
            columns, info = comment_fields(comment)
            fields = {**dict.fromkeys(columns, COLUMN), **info}
            census.add({name: value for name, value in fields.items() if name not in GEOMETRY})
    except (ValueError, *DAMAGED):  # of a frame that will be refused: then all has to be read
        return _census(path, keys)
    if census.structures == 0:
        raise ValueError(f"{path}: holds no structure; check that it is complete")
    return census


def _checked(blocks: Iterator[Columns], path: str) -> Iterator[Columns]:
    start = 0
    for columns in blocks:
        check_columns(columns, path, start)
        yield columns
        start += len(columns)


def _blocks(path: Path, found: Found, refused: list[Refused] | None) -> Iterator[Columns]:
    block: list[Columns] = []
    for record in read_records([str(path)]):
        one = record if isinstance(record, Refused) else _labelled(record, found.keys)
        if isinstance(one, Columns):
            block.append(one)
        elif refused is None:
            raise ValueError(str(one))
        else:
            refused.append(one)
        if len(block) == BLOCK:
            yield Columns.concatenate(block)
            block = []
    if block:
        yield Columns.concatenate(block)


def _labelled(record: StructureRecord, keys: LabelKeys) -> Columns | Refused:
    """One structure with its labels, or why it cannot be used."""
    atoms, fields = record.atoms, record.fields
    try:
        value = fields.get(keys.energy or "")
        energy = np.nan if value is None else as_energy(value, str(keys.energy))
        value = fields.get(keys.forces or "")
        missing = np.full((len(atoms), 3), np.nan)
        forces = missing if value is None else as_forces(value, len(atoms), str(keys.forces))
        key = keys.stress or keys.virial or ""
        value = fields.get(key)
        matrix = np.full((3, 3), np.nan) if value is None else as_matrix(value, key).reshape(3, 3)
        multipoles = {}
        for name, (level, shape) in MULTIPOLES.items():
            key = getattr(keys, name) or ""
            value = fields.get(key)
            rows = len(atoms) if level == "atom" else 1
            if key:
                empty = np.full((rows, *shape), np.nan)
                multipoles[name] = empty if value is None else as_multipole(name, value, len(atoms), key)
        columns = Columns(
            num_atoms=np.array([len(atoms)], dtype=np.int64),
            numbers=atomic_numbers(atoms.numbers),
            positions=atoms.positions.astype(np.float64),
            forces=forces,
            cell=atoms.cell.array[None].astype(np.float64),
            pbc=atoms.pbc[None].astype(bool),
            energy=np.array([energy]),
            stress=(stress_of_virial(matrix, atoms.cell.array) if keys.virial else matrix)[None],
            config_types=_text(fields.get(keys.config_type or "")),
            groups=_text(fields.get(keys.group or "")),
            multipoles=multipoles,
        )
        for name in ("energy", "forces", "stress"):
            if (np.abs(getattr(columns, name)) > LARGEST_LABEL).any():
                raise ValueError(f"{name} beyond {LARGEST_LABEL:g} in eV and A; correct or remove it")
        for name, values in multipoles.items():
            if (np.abs(values) > LARGEST_LABEL).any():
                raise ValueError(f"{name} beyond {LARGEST_LABEL:g} in e and A; correct or remove it")
    except ValueError as error:
        return Refused(record.file, record.index, str(error))
    return columns


def _text(value: object) -> np.ndarray:
    text = np.empty(1, dtype=object)
    text[0] = "" if value is None else str(value)
    return text
