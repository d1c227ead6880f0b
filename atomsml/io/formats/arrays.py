"""Arrays of NumPy (.npz): molecules of one composition, as MD17, rMD17 and sGDML have them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import ase
import numpy as np

from atomsml.io.formats.source import Source
from atomsml.io.formats.stated_units import in_our_units
from atomsml.io.records import Refused, StructureRecord, record_of

# what the arrays are called, in lower case
NUMBERS = ("z", "numbers", "atomic_numbers", "nuclear_charges", "atomic_number", "species")
POSITIONS = ("r", "positions", "coords", "coordinates", "pos", "xyz")
CELLS = ("lattice", "cell", "cells")
LABELS = {"e": "energy", "f": "forces", "energies": "energy", "energy": "energy", "force": "forces", "forces": "forces"}
UNITS = {"e_unit": "energy_unit", "r_unit": "length_unit", "f_unit": "forces_unit"}  # of sGDML


def read_npz(source: Source) -> Iterator[StructureRecord | Refused]:
    """Structures of an .npz file: `z` or `numbers` (atoms,) or (n, atoms), `R` or `positions` (n, atoms, 3).

    Arrays whose first axis is n are fields, energies and forces under those names. Where sGDML states the units of
    energies and lengths, forces are in their quotient.

    Raises:
        ValueError: no such arrays, objects in them, or shapes that do not fit.
    """
    with source.plain_file() as path:
        arrays = _load(path)
    numbers, positions = _find(arrays, NUMBERS, "atomic numbers"), _find(arrays, POSITIONS, "positions")
    positions = positions[None] if positions.ndim == 2 else positions
    n, atoms = positions.shape[:2]
    if positions.shape[2:] != (3,) or numbers.shape not in ((atoms,), (n, atoms)):
        raise ValueError(
            f"has numbers of shape {numbers.shape} and positions of shape {positions.shape}; they must fit"
        )
    cells = next((array for name, array in arrays.items() if name.lower() in CELLS), None)
    rows = {LABELS.get(k.lower(), k): v for k, v in arrays.items() if v.ndim and len(v) == n and v.dtype.kind in "fiu"}
    units = _units(arrays)
    for index in range(n):
        image = ase.Atoms(numbers if numbers.ndim == 1 else numbers[index], positions[index])
        if cells is not None:
            image.set_cell(cells if cells.ndim == 2 else cells[index])
            image.pbc = True
        fields = {name: array[index] for name, array in rows.items() if name.lower() not in (*NUMBERS, *POSITIONS)}
        fields = {name: value.reshape(()) if value.size == 1 else value for name, value in fields.items()}
        try:
            yield in_our_units(record_of(source.name, index, image, fields), units)
        except ValueError as error:
            yield Refused(source.name, index, str(error))


def _load(path: Path) -> dict[str, np.ndarray]:
    """All arrays, none of which may declare more than the file has."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    header = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = header(file)
                if math.prod(shape) * dtype.itemsize > member.file_size:
                    raise ValueError(f"{member.filename} declares the shape {shape}, more than it has")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
        raise ValueError(f"cannot be read as arrays of NumPy ({error}); check that it is complete") from error


def _find(arrays: Mapping[str, np.ndarray], names: tuple[str, ...], what: str) -> np.ndarray:
    found = [array for name, array in arrays.items() if name.lower() in names and array.dtype.kind in "fiu"]
    if len(found) != 1 or found[0].ndim == 0:
        raise ValueError(f"has {len(found)} arrays of {what}; name one {names[0]} or {names[1]}")
    return found[0]


def _units(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    stated = {UNITS.get(key, key): str(value[()]) for key, value in arrays.items() if value.dtype.kind == "U"}
    units = {key.removesuffix("_unit"): value for key, value in stated.items() if key.endswith("_unit")}
    if "energy" in units and "length" in units:
        units.setdefault("forces", f"{units['energy']}/{units['length']}")
    return units
