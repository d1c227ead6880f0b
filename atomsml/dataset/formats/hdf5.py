"""Plain HDF5: flat arrays, in which `offsets` delimits the atoms of each structure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from atomsml.dataset.columns import Columns, atomic_numbers
from atomsml.dataset.labels import LabelKeys, as_matrix, stress_of_virial

BLOCK_ATOMS = 200_000  # read at a time
GEOMETRY = ("offsets", "numbers", "positions", "cell", "pbc")


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading.

    Raises:
        ValueError: not an HDF5 file.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as HDF5 ({error}); check that it is complete") from error


def plain_fields(path: Path) -> tuple[dict[str, int], int]:
    """Arrays, with the number of structures that they are for, and the number of structures.

    An array that has neither a row for each structure nor one for each atom is for none, but is not passed over: if it
    turns out to be a label, `plain_blocks` refuses it.

    Raises:
        ValueError: an array that is missing, or whose type or length does not fit.
    """
    with open_hdf5(path) as file:
        for name in GEOMETRY[:3]:
            if not isinstance(file.get(name), h5py.Dataset):
                raise ValueError(f"{path}: has no array {name!r}, only {', '.join(file) or 'nothing'}")
        for name, kinds in (("offsets", "iu"), ("numbers", "iu"), ("positions", "fiu")):
            if file[name].dtype.kind not in kinds or file[name].ndim == 0:
                what = "numbers" if "f" in kinds else "integers"
                raise ValueError(f"{path}: {name} must be an array of {what}, got {file[name].dtype}")
        offsets = file["offsets"][()]
        atoms, structures = len(file["numbers"]), len(offsets) - 1
        if structures < 0 or offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != atoms:
            raise ValueError(f"{path}: offsets must ascend from 0 to the number of atoms, {atoms}")
        shapes = {"positions": (atoms, 3), "cell": (structures, 3, 3), "pbc": (structures, 3)}
        for name, shape in shapes.items():
            if name in file and file[name].shape != shape:
                raise ValueError(f"{path}: {name} must have shape {shape}, got {file[name].shape}")
        arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset) and item.ndim > 0}
        lengths = {name: len(item) for name, item in arrays.items() if name not in GEOMETRY}
    return {name: structures * (length in (structures, atoms)) for name, length in lengths.items()}, structures


def plain_blocks(path: Path, keys: LabelKeys) -> Iterator[Columns]:
    """The structures, some at a time.

    Raises:
        ValueError: a label whose shape does not fit.
    """
    with open_hdf5(path) as file:
        offsets = file["offsets"][()].astype(np.int64)
        atoms, structures = int(offsets[-1]), len(offsets) - 1
        for key, allowed in (
            (keys.energy, [(structures,), (structures, 1)]),
            (keys.forces, [(atoms, 3)]),
            (keys.stress or keys.virial, [(structures, 3, 3), (structures, 9), (structures, 6)]),
        ):
            if key and file[key].shape not in allowed:
                raise ValueError(f"{path}: {key} must have shape {allowed[0]}, got {file[key].shape}")
        block_of = offsets[1:] // BLOCK_ATOMS
        starts = np.flatnonzero(np.diff(block_of, prepend=-1))
        for start, stop in itertools.pairwise([*starts.tolist(), structures]):
            yield _block(file, keys, offsets, start, stop)


def _block(file: h5py.File, keys: LabelKeys, offsets: np.ndarray, start: int, stop: int) -> Columns:
    atoms, rows = slice(offsets[start], offsets[stop]), slice(start, stop)
    count = stop - start
    cell = file["cell"][rows] if "cell" in file else np.zeros((count, 3, 3))
    pbc = file["pbc"][rows] if "pbc" in file else np.abs(cell).any(axis=2)
    positions = file["positions"][atoms].astype(np.float64)
    stress = np.full((count, 3, 3), np.nan)
    key = keys.stress or keys.virial
    if key:
        matrices = as_matrix(file[key][rows], key)
        stress = stress_of_virial(matrices, cell) if keys.virial else matrices
    return Columns(
        num_atoms=np.diff(offsets[start : stop + 1]),
        numbers=atomic_numbers(file["numbers"][atoms]),
        positions=positions,
        forces=file[keys.forces][atoms].astype(np.float64) if keys.forces else np.full_like(positions, np.nan),
        cell=cell.astype(np.float64),
        pbc=pbc.astype(bool),
        energy=file[keys.energy][rows].reshape(-1).astype(np.float64),
        stress=stress,
        config_types=_texts(file, keys.config_type, rows),
        groups=_texts(file, keys.group, rows),
    )


def _texts(file: h5py.File, key: str | None, rows: slice) -> np.ndarray:
    """Strings of an array, each only once in memory."""
    count = rows.stop - rows.start
    if not key:
        return np.full(count, "", dtype=object)
    array = file[key]
    values = array.asstr()[rows] if h5py.check_string_dtype(array.dtype) else array[rows]
    once: dict[str, str] = {}
    texts = np.empty(count, dtype=object)
    texts[:] = [once.setdefault(str(value), str(value)) for value in values]
    return texts
