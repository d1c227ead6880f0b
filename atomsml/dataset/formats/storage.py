"""The toolkit's own HDF5: compressed, self-describing, written as a stream and read where it is needed.

The layout is that of plain HDF5, flat arrays with `offsets`: a reader of the one reads the other. A column that was
never written takes no space and reads as NaN, or as zero. Config types and groups are numbers of rows in `*_names`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from atomsml import __version__
from atomsml.dataset.columns import LARGEST_LABEL, MULTIPOLES, Columns, atoms_of, labelled
from atomsml.dataset.formats.layout import (
    CONVENTIONS,
    FORMAT,
    FORMAT_VERSION,
    INDEX_CHUNK,
    OPTIONAL_PER_ATOM,
    OPTIONAL_PER_STRUCTURE,
    PER_ATOM,
    PER_STRUCTURE,
    Row,
    format_version,
    read_sources,
    stored_arrays,
)
from atomsml.dataset.formats.patient_file import PatientFile
from atomsml.dataset.labels import Found, LabelKeys
from atomsml.electronic_state import ElectronicState
from atomsml.io import write_atomically
from atomsml.io.hdf5_safety import DAMAGED, open_hdf5, read_array
from atomsml.io.records import FARTHEST, near
from atomsml.signals import held_stops


def write_dataset(path: str | Path, blocks: Iterable[Columns], sources: Sequence[dict[str, Any]] = ()) -> int:
    """Write structures that arrive some at a time; returns how many. `path` is complete or untouched.

    Args:
        sources: where they come from (see `describe_source`).

    Raises:
        OSError: `path` cannot be written, for example because the disk is full.
        ValueError: no structure.
    """
    written = 0

    def write(beside: Path) -> None:
        nonlocal written
        with PatientFile(beside, "w+") as disk:
            try:
                with h5py.File(disk, "w") as file:
                    for count in _write(file, blocks, sources):
                        written += count
                        disk.raise_error(path)
            except (OSError, RuntimeError):  # of HDF5, which misses what the full disk did not take
                disk.raise_error(path)
                raise
            disk.raise_error(path)
        if written == 0:
            raise ValueError(f"cannot write {path}: a dataset needs at least one structure, got none")

    write_atomically(path, write)
    return written


def describe_source(found: Found) -> dict[str, Any]:
    """What a dataset file says about a file that it was made from: name, SHA-256, labels, structures, charges."""
    path, sha256 = Path(found.path), None  # of a folder none
    if path.is_file():
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    keys = {label: key for label, key in dataclasses.asdict(found.keys).items() if key}
    states = [[state.charge, state.spin, count] for state, count in found.states]
    return {"file": path.name, "sha256": sha256, "structures": found.structures, "keys": keys, "states": states}


def _write(file: h5py.File, blocks: Iterable[Columns], sources: Sequence[dict[str, Any]]) -> Iterator[int]:
    """Write one block after the other, and yield how many structures it has."""
    file.attrs.update(format=FORMAT, format_version=FORMAT_VERSION, atomsml_version=__version__)
    file.attrs["conventions"] = CONVENTIONS
    for name, row in {**PER_ATOM, **PER_STRUCTURE}.items():
        _create(file, name, row)
    file.create_dataset("offsets", data=np.zeros(1, "i8"), maxshape=(None,), chunks=(INDEX_CHUNK,), compression="gzip")
    file.create_dataset("sources", data=[json.dumps(source) for source in sources], dtype=h5py.string_dtype())
    config_types, groups = Names(file, "config_type_names"), Names(file, "group_names")
    structures = atoms = 0
    for columns in blocks:
        end = atoms + len(columns.numbers)
        with held_stops():  # an exception in a write that HDF5 asks for would crash the process
            for name in PER_ATOM:
                _append(file[name], getattr(columns, name), atoms)
            codes = {"config_type": config_types.codes(columns.config_types), "group": groups.codes(columns.groups)}
            for name in PER_STRUCTURE:
                _append(file[name], codes[name] if name in codes else getattr(columns, name), structures)
            for name, row in {**OPTIONAL_PER_ATOM, **OPTIONAL_PER_STRUCTURE}.items():
                if name in columns.multipoles and name not in file:
                    _create(file, name, row)
                if name in file:
                    _append(file[name], columns.multipole(name), atoms if name in OPTIONAL_PER_ATOM else structures)
            _append(file["offsets"], atoms + columns.offsets[1:], structures + 1)
        structures, atoms = structures + len(columns), end
        yield len(columns)


def _create(file: h5py.File, name: str, row: Row) -> None:
    shape, dtype, fill, unit, chunk = row
    array = file.create_dataset(
        name,
        shape=(0, *shape),
        maxshape=(None, *shape),
        dtype=dtype,
        chunks=(chunk, *shape),
        fillvalue=fill,
        compression="gzip",
        shuffle=True,
    )
    array.attrs["unit"] = unit


def _append(array: h5py.Dataset, values: np.ndarray, start: int) -> None:
    """Rows `start` and on; where all of them are missing, only the length changes."""
    array.resize(start + len(values), axis=0)
    empty = np.isnan(values) if np.isnan(array.fillvalue) else values == 0
    if not empty.all():
        array[start:] = values


class Names:
    """Names that grow in a file, each with the number of its row."""

    def __init__(self, file: h5py.File, name: str) -> None:
        self._array = file.create_dataset(
            name, (0,), maxshape=(None,), dtype=h5py.string_dtype(), chunks=(INDEX_CHUNK,), compression="gzip"
        )
        self._code: dict[str, int] = {}

    def codes(self, names: np.ndarray) -> np.ndarray:
        """(n,) row of each name; new ones are written."""
        known = len(self._code)
        codes = np.array([self._code.setdefault(name, len(self._code)) for name in names], dtype=np.int32)
        if len(self._code) > known:
            self._array.resize(len(self._code), axis=0)
            self._array[known:] = list(self._code)[known:]
        return codes


def is_stored(path: Path) -> bool:
    """Whether an HDF5 file was written by `write_dataset`."""
    with open_hdf5(path) as file:
        return format_version(file) is not None


class StoredColumns:
    """Structures in a file of `write_dataset`, read when asked.

    What is needed to plan (sizes, energies, which labels there are) is in memory: about 30 bytes a structure. Each
    process opens the file for itself, also after a fork, and a pickle holds the path alone.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file and check it as a whole.

        Raises:
            ValueError: a file that is damaged or not complete, or of a later version.
        """
        self.path = Path(path).absolute()
        self._process = -1
        with open_hdf5(self.path) as file:
            version = format_version(file)
            if version is not None and version > FORMAT_VERSION:
                raise ValueError(
                    f"{path}: has format version {version}, this atomsml reads {FORMAT_VERSION}; update atomsml"
                )
            arrays = stored_arrays(file)
            self.sources = read_sources(arrays["sources"])  # what the file was made from
            self.offsets = read_array(arrays["offsets"])
            self.energy = read_array(arrays["energy"])
            self.pbc = read_array(arrays["pbc"])
            self.has_forces = read_array(arrays["has_forces"])
            self.has_stress = read_array(arrays["has_stress"])
            there = {name: read_array(arrays[name]) for name in MULTIPOLES if name in arrays}
            self.has_multipoles = labelled(there, self.offsets)
        self.num_atoms = np.diff(self.offsets)

    def __reduce__(self) -> tuple[type[StoredColumns], tuple[Path]]:
        return StoredColumns, (self.path,)

    @property
    def _arrays(self) -> dict[str, h5py.Dataset]:
        """The arrays of this process's own handle; looking one up in the file takes longer than reading it."""
        if self._process != os.getpid():
            self._handle = open_hdf5(self.path)
            self._opened = dict(self._handle.items())
            self._process = os.getpid()
        return self._opened

    @cached_property
    def content(self) -> np.ndarray:
        """(n,) uint64 hash of each geometry."""
        return read_array(self._arrays["content"])

    @cached_property
    def config_types(self) -> np.ndarray:
        return self._names("config_type")

    @cached_property
    def groups(self) -> np.ndarray:
        return self._names("group")

    def _names(self, column: str) -> np.ndarray:
        """(n,) str, each name once in memory."""
        return read_array(self._arrays[f"{column}_names"], text=True).astype(object)[read_array(self._arrays[column])]

    def numbers_of(self, rows: np.ndarray) -> np.ndarray:
        """(atoms of these rows,) atomic numbers alone."""
        order = np.argsort(rows, kind="stable")
        numbers = self._read("numbers", self._atom_runs(_runs(rows[order])))
        counts = self.num_atoms[rows[order]]
        return numbers[atoms_of(np.concatenate([[0], np.cumsum(counts)]), np.argsort(order))]

    def take(self, rows: np.ndarray) -> Columns:
        """The structures `rows`, in that order; neighbours in the file are read together."""
        order = np.argsort(rows, kind="stable")
        sorted_rows = rows[order]
        runs = _runs(sorted_rows)
        atoms = self._atom_runs(runs)
        positions = self._read("positions", atoms)
        stress = np.full((len(rows), 3, 3), np.nan)
        columns = Columns(
            num_atoms=self.num_atoms[sorted_rows],
            numbers=self._read("numbers", atoms),
            positions=positions,
            forces=self._read("forces", atoms) if self.has_forces[rows].any() else np.full_like(positions, np.nan),
            cell=self._read("cell", runs),
            pbc=self.pbc[sorted_rows],
            energy=self.energy[sorted_rows],
            stress=self._read("stress", runs) if self.has_stress[rows].any() else stress,
            config_types=self.config_types[sorted_rows],
            groups=self.groups[sorted_rows],
            multipoles={
                name: self._read(name, atoms if name in OPTIONAL_PER_ATOM else runs) for name in self.has_multipoles
            },
        )
        if not (near(positions).all() and near(columns.cell).all()):
            raise ValueError(
                f"{self.path}: has a position or cell that is not finite, or beyond {FARTHEST:g} A; {DAMAGED}"
            )
        labels = columns.energy, columns.forces, columns.stress, *columns.multipoles.values()
        if any((np.abs(each) > LARGEST_LABEL).any() for each in labels):
            raise ValueError(f"{self.path}: has a label beyond {LARGEST_LABEL:g} in e, eV and A; {DAMAGED}")
        return columns if (order[1:] > order[:-1]).all() else columns.take(np.argsort(order))

    def _atom_runs(self, runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(int(self.offsets[first]), int(self.offsets[stop])) for first, stop in runs]

    def _read(self, name: str, runs: list[tuple[int, int]]) -> np.ndarray:
        array = self._arrays[name]
        parts = [read_array(array, slice(first, stop)) for first, stop in runs]
        return parts[0] if len(parts) == 1 else np.concatenate([read_array(array, slice(0)), *parts])


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Ascending rows as (first, stop) of stretches without a gap."""
    if len(rows) == 0:
        return []
    starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    firsts, lasts = rows[starts], rows[np.append(starts[1:], len(rows)) - 1]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def stored_keys(stored: StoredColumns, keys: LabelKeys) -> Found:
    """What a file of `write_dataset` holds. A key may be given as it was in the files from which it was made.

    Raises:
        ValueError: another key.
    """
    present = {
        "energy": int((~np.isnan(stored.energy)).sum()),
        "forces": int(stored.has_forces.sum()),
        "stress": int(stored.has_stress.sum()),
        "config_type": int((stored.config_types != "").sum()),
        "group": int((stored.groups != "").sum()),
        **{name: int(there.sum()) for name, there in stored.has_multipoles.items()},
    }
    present = {name: count for name, count in present.items() if count}
    for label, key in dataclasses.asdict(keys).items():
        made_from = {source["keys"].get(label) for source in stored.sources}
        if key and key != label and key not in made_from:
            raise ValueError(
                f"{stored.path}: its {label} was not made from the key {key!r} but from "
                f"{', '.join(sorted(map(str, made_from)))}; leave the key away"
            )
    own = LabelKeys(**{name: name for name in present})
    states: Counter[ElectronicState] = Counter()
    for source in stored.sources:
        for charge, spin, count in source.get("states", []):  # which older files do not have
            states[ElectronicState(charge, spin)] += count
    return Found(str(stored.path), "atomsml dataset", len(stored.num_atoms), present, own, states=tuple(states.items()))
