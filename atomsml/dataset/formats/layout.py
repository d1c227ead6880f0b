"""The arrays of the toolkit's own HDF5, and whether a file has them as they must be."""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np

from atomsml.io.hdf5_safety import DAMAGED, check_written, checked_arrays, read_array, where

FORMAT, FORMAT_VERSION = "atomsml dataset", 1
CONVENTIONS = (
    "Atoms of structure i are rows offsets[i] to offsets[i+1]. Rows of cell are lattice vectors. stress = dE/dstrain / "
    "volume, positive under tension. Dipoles point to positive charge, quadrupoles are traceless second moments. "
    "Missing labels are NaN. config_type and group are row numbers of *_names."
)
# a chunk is the least that is decompressed to read one structure: about 500 atoms, or 128 structures
ATOM_CHUNK, STRUCTURE_CHUNK, INDEX_CHUNK = 512, 128, 8192
Row = tuple[tuple[int, ...], str, float, str, int]
"""Shape of a row, type, value where nothing is written, unit, rows of a chunk."""
PER_ATOM: dict[str, Row] = {
    "numbers": ((), "u1", 0, "", 4 * ATOM_CHUNK),
    "positions": ((3,), "f8", np.nan, "A", ATOM_CHUNK),
    "forces": ((3,), "f8", np.nan, "eV/A", ATOM_CHUNK),
}
PER_STRUCTURE: dict[str, Row] = {
    "energy": ((), "f8", np.nan, "eV", INDEX_CHUNK),
    "cell": ((3, 3), "f8", 0.0, "A", STRUCTURE_CHUNK),
    "pbc": ((3,), "?", 0, "", INDEX_CHUNK),
    "stress": ((3, 3), "f8", np.nan, "eV/A^3", STRUCTURE_CHUNK),
    "has_forces": ((), "?", 0, "", INDEX_CHUNK),
    "has_stress": ((), "?", 0, "", INDEX_CHUNK),
    "content": ((), "u8", 0, "", INDEX_CHUNK),
    "config_type": ((), "i4", 0, "", INDEX_CHUNK),
    "group": ((), "i4", 0, "", INDEX_CHUNK),
}
# only in files with such labels: those of Columns.multipoles
OPTIONAL_PER_ATOM: dict[str, Row] = {
    "charges": ((), "f8", np.nan, "e", 4 * ATOM_CHUNK),
}
OPTIONAL_PER_STRUCTURE: dict[str, Row] = {
    "dipole": ((3,), "f8", np.nan, "e A", STRUCTURE_CHUNK),
    "quadrupole": ((3, 3), "f8", np.nan, "e A^2", STRUCTURE_CHUNK),
}
TEXTS = ("sources", "config_type_names", "group_names")
BLOCK = 2**22  # atoms whose numbers are looked at a time


def format_version(file: h5py.File) -> int | None:
    """Version of the layout that a file says it has; None for a file of others.

    Raises:
        ValueError: a file of ours without a version.
    """
    try:
        ours = file.attrs.get("format") if "format" in file.attrs else None
        version = file.attrs.get("format_version") if "format_version" in file.attrs else None
    except Exception as error:  # where a file is damaged, h5py raises anything
        raise ValueError(f"{file.filename}: its attributes cannot be read; {DAMAGED}") from error
    if not isinstance(ours, str) or ours != FORMAT:
        return None
    if not isinstance(version, int | np.integer) or version < 1:
        raise ValueError(f"{file.filename}: its format_version must be a positive integer, got {version!r}; {DAMAGED}")
    return int(version)


def stored_arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The arrays of a file of `write_dataset`, checked as a whole: kinds, lengths, indices, elements.

    What is read here is what planning needs (some bytes a structure) and a byte an atom; coordinates and labels are
    looked at when they are read.

    Raises:
        ValueError: a file that cannot have been written so; names the array, the rule and the remedy.
    """
    arrays = checked_arrays(file)
    wanted = {**dict.fromkeys(("offsets", *TEXTS)), **PER_ATOM, **PER_STRUCTURE}
    for name in wanted:
        if name not in arrays:
            raise ValueError(f"{file.filename}: has no array {name!r}; {DAMAGED}")
    offsets = _checked_offsets(arrays)
    structures, atoms = len(offsets) - 1, int(offsets[-1])
    optional_of_atoms = {name: each for name, each in OPTIONAL_PER_ATOM.items() if name in arrays}
    optional = {name: each for name, each in OPTIONAL_PER_STRUCTURE.items() if name in arrays}
    tables = ({**PER_ATOM, **optional_of_atoms}, atoms), ({**PER_STRUCTURE, **optional}, structures)
    for table, length in tables:
        for name, (row, dtype, fill, _, _) in table.items():
            _check(arrays[name], (length, *row), dtype)
            if not np.array_equal(arrays[name].fillvalue, fill, equal_nan=True):
                raise ValueError(f"{where(arrays[name])} must read {fill} where nothing was written; {DAMAGED}")
    for name in ("numbers", "positions", "content"):
        check_written(arrays[name])
    _check_codes(arrays)
    _check_labels(arrays)
    for start in range(0, atoms, BLOCK):
        numbers = read_array(arrays["numbers"], slice(start, start + BLOCK))
        if numbers.min() < 1 or numbers.max() > 118:
            raise ValueError(f"{where(arrays['numbers'])} must be from 1 to 118; {DAMAGED}")
    return arrays


def _check(array: h5py.Dataset, shape: tuple[int, ...], dtype: str) -> None:
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ValueError(
            f"{where(array)} must be {np.dtype(dtype)} of shape {shape}, got {array.dtype} of {array.shape}; {DAMAGED}"
        )


def _checked_offsets(arrays: dict[str, h5py.Dataset]) -> np.ndarray:
    array = arrays["offsets"]
    if array.ndim != 1 or array.dtype != np.dtype("i8") or len(array) < 2:
        raise ValueError(f"{where(array)} must be the first atoms of one structure or more, in int64; {DAMAGED}")
    check_written(array)
    offsets = read_array(array)
    atoms = arrays["numbers"].size
    if offsets[0] != 0 or not (offsets[1:] > offsets[:-1]).all() or offsets[-1] != atoms:
        raise ValueError(f"{where(array)} must ascend from 0 to the number of atoms, {atoms}; {DAMAGED}")
    return offsets


def _check_codes(arrays: dict[str, h5py.Dataset]) -> None:
    for name in TEXTS:
        if arrays[name].ndim != 1 or arrays[name].dtype != h5py.string_dtype():
            raise ValueError(f"{where(arrays[name])} must be a list of texts; {DAMAGED}")
        check_written(arrays[name])
    for name in ("config_type", "group"):
        codes, names = read_array(arrays[name]), len(arrays[f"{name}_names"])
        if codes.min() < 0 or codes.max() >= names:
            raise ValueError(f"{where(arrays[name])} must be rows of {name}_names, which has {names}; {DAMAGED}")


def _check_labels(arrays: dict[str, h5py.Dataset]) -> None:
    for name in ("forces", "stress"):
        if read_array(arrays[f"has_{name}"]).any() and arrays[name].id.get_storage_size() == 0:
            raise ValueError(f"{where(arrays[name])} was never written, but has_{name} says it was; {DAMAGED}")


def read_sources(array: h5py.Dataset) -> list[dict[str, Any]]:
    """What a dataset says it was made from.

    Raises:
        ValueError: it says that in no way that `describe_source` does.
    """
    try:
        sources = [json.loads(text) for text in read_array(array, text=True)]
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where(array)} cannot be read as JSON; {DAMAGED}") from error
    if not all(isinstance(source, dict) and isinstance(source.get("keys"), dict) for source in sources):
        raise ValueError(f"{where(array)} must each have keys of labels; {DAMAGED}")
    if not all(_are_states(source.get("states", [])) for source in sources):
        raise ValueError(f"{where(array)} must list charges and spins with their numbers of structures; {DAMAGED}")
    return sources


def _are_states(rows: Any) -> bool:
    """Whether these are lists of a charge, a multiplicity (each a number or null) and a number of structures."""
    return isinstance(rows, list) and all(
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], int | float | None)
        and isinstance(row[1], int | None)
        and isinstance(row[2], int)
        for row in rows
    )
