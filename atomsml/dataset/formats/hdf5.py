"""Plain HDF5: flat arrays, in which `offsets` delimits the atoms of each structure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from atomsml.dataset.columns import Columns, atomic_numbers
from atomsml.dataset.labels import LabelKeys, as_matrix, stress_of_virial, traceless
from atomsml.electronic_state import CHARGE_KEYS, SPIN_KEYS, ElectronicState, state_of_fields
from atomsml.io.hdf5_safety import check_written, checked_arrays, open_hdf5, read_array, where

BLOCK_ATOMS = 200_000  # read at a time
GEOMETRY = ("offsets", "numbers", "positions", "cell", "pbc")


def plain_fields(path: Path) -> tuple[dict[str, int], int]:
    """Arrays, with the number of structures that they are for, and the number of structures.

    An array that has neither a row for each structure nor one for each atom is for none, but is not passed over: if it
    turns out to be a label, `plain_blocks` refuses it.

    Raises:
        ValueError: an array that is missing, or whose type or length does not fit.
    """
    with open_hdf5(path) as file:
        arrays = checked_arrays(file)
        for name, kinds in (("offsets", "iu"), ("numbers", "iu"), ("positions", "fiu")):
            if name not in arrays:
                raise ValueError(f"{path}: has no array {name!r}, only {', '.join(arrays) or 'nothing'}")
            if arrays[name].dtype.kind not in kinds or arrays[name].ndim == 0:
                what = "numbers" if "f" in kinds else "integers"
                raise ValueError(f"{path}: {name} must be an array of {what}, got {arrays[name].dtype}")
            check_written(arrays[name])
        if arrays["offsets"].ndim != 1 or arrays["numbers"].ndim != 1:
            raise ValueError(f"{path}: offsets and numbers must have one dimension")
        offsets = read_array(arrays["offsets"])
        atoms, structures = len(arrays["numbers"]), len(offsets) - 1
        if structures < 0 or offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any() or offsets[-1] != atoms:
            raise ValueError(f"{path}: offsets must ascend from 0 to the number of atoms, {atoms}")
        for name, shape in {"positions": (atoms, 3), "cell": (structures, 3, 3), "pbc": (structures, 3)}.items():
            if name in arrays and arrays[name].shape != shape:
                raise ValueError(f"{path}: {name} must have shape {shape}, got {arrays[name].shape}")
            if name in arrays and arrays[name].dtype.kind not in "fiub":
                raise ValueError(f"{path}: {name} must be an array of numbers, got {arrays[name].dtype}")
        lengths = {name: len(array) for name, array in arrays.items() if array.shape and name not in GEOMETRY}
    return {name: structures * (length in (structures, atoms)) for name, length in lengths.items()}, structures


def plain_states(path: Path) -> Counter[ElectronicState]:
    """Charges and spins that arrays of such names state, and how many structures have each."""
    with open_hdf5(path) as file:
        arrays = checked_arrays(file)
        structures = len(arrays["offsets"]) - 1
        said = {name: arrays[name] for name in (*CHARGE_KEYS, *SPIN_KEYS) if name in arrays}
        columns = {
            name: read_array(array).tolist()
            for name, array in said.items()
            if array.shape == (structures,) and array.dtype.kind in "fiu"
        }
    rows = zip(*columns.values(), strict=True) if columns else itertools.repeat((), structures)
    return Counter(state_of_fields(dict(zip(columns, row, strict=True))) for row in rows)


def plain_blocks(path: Path, keys: LabelKeys) -> Iterator[Columns]:
    """The structures, some at a time.

    Raises:
        ValueError: a label whose shape does not fit.
    """
    with open_hdf5(path) as file:
        offsets = read_array(file["offsets"]).astype(np.int64)
        atoms, structures = int(offsets[-1]), len(offsets) - 1
        for key, allowed in (
            (keys.energy, [(structures,), (structures, 1)]),
            (keys.forces, [(atoms, 3)]),
            (keys.stress or keys.virial, [(structures, 3, 3), (structures, 9), (structures, 6)]),
            (keys.charges, [(atoms,), (atoms, 1)]),
            (keys.dipole, [(structures, 3)]),
            (keys.quadrupole, [(structures, 3, 3), (structures, 9), (structures, 6)]),
        ):
            if key and file[key].shape not in allowed:
                raise ValueError(f"{path}: {key} must have shape {allowed[0]}, got {file[key].shape}")
            if key and file[key].dtype.kind not in "fiu":
                raise ValueError(f"{path}: {key} must be an array of numbers, got {file[key].dtype}")
        block_of = offsets[1:] // BLOCK_ATOMS
        starts = np.flatnonzero(np.diff(block_of, prepend=-1))
        for start, stop in itertools.pairwise([*starts.tolist(), structures]):
            yield _block(file, keys, offsets, start, stop)


def _block(file: h5py.File, keys: LabelKeys, offsets: np.ndarray, start: int, stop: int) -> Columns:
    atoms, rows = slice(offsets[start], offsets[stop]), slice(start, stop)
    count = stop - start
    cell = read_array(file["cell"], rows) if "cell" in file else np.zeros((count, 3, 3))
    pbc = read_array(file["pbc"], rows) if "pbc" in file else np.abs(cell).any(axis=2)
    positions = read_array(file["positions"], atoms).astype(np.float64)
    stress = np.full((count, 3, 3), np.nan)
    key = keys.stress or keys.virial
    if key:
        matrices = as_matrix(read_array(file[key], rows), key)
        stress = stress_of_virial(matrices, cell) if keys.virial else matrices
    forces = read_array(file[keys.forces], atoms).astype(np.float64) if keys.forces else np.full_like(positions, np.nan)
    energy = read_array(file[keys.energy], rows).reshape(-1) if keys.energy else np.full(count, np.nan)
    return Columns(
        num_atoms=np.diff(offsets[start : stop + 1]),
        numbers=atomic_numbers(read_array(file["numbers"], atoms)),
        positions=positions,
        forces=forces,
        cell=cell.astype(np.float64),
        pbc=pbc.astype(bool),
        energy=energy.astype(np.float64),
        stress=stress,
        config_types=_texts(file, keys.config_type, rows),
        groups=_texts(file, keys.group, rows),
        multipoles=dict(_multipoles(file, keys, atoms, rows)),
    )


def _multipoles(file: h5py.File, keys: LabelKeys, atoms: slice, rows: slice) -> Iterator[tuple[str, np.ndarray]]:
    if keys.charges:
        yield "charges", read_array(file[keys.charges], atoms).astype(np.float64).reshape(-1)
    if keys.dipole:
        yield "dipole", read_array(file[keys.dipole], rows).astype(np.float64)
    if keys.quadrupole:
        yield "quadrupole", traceless(as_matrix(read_array(file[keys.quadrupole], rows), keys.quadrupole))


def _texts(file: h5py.File, key: str | None, rows: slice) -> np.ndarray:
    """Strings of an array, each only once in memory."""
    count = rows.stop - rows.start
    if not key:
        return np.full(count, "", dtype=object)
    array = file[key]
    if array.ndim != 1:
        raise ValueError(f"{where(array)} must be a list of one text for each structure, got shape {array.shape}")
    values = read_array(array, rows, text=h5py.check_string_dtype(array.dtype) is not None)
    once: dict[str, str] = {}
    texts = np.empty(count, dtype=object)
    texts[:] = [once.setdefault(str(value), str(value)) for value in values]
    return texts
