"""Chains in one HDF5 file, so that a folder of many thousand files is read once.

| array | shape | meaning |
|---|---|---|
| offsets | (chains + 1,) | where the residues of each chain begin and end |
| coordinates | (residues, 4, 3) | N, CA, C and O, Angstrom |
| sequence | (residues,) | one-letter codes |
| labels | (residues,) | numbers with their insertion codes |
| name, where | (chains,) | texts: the letter of each chain, and the file it comes from |
| file | (chains,) | counted from 0: chains of one file stand together |
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path

import h5py
import numpy as np

from atomsml import __version__
from atomsml.generative.proteins.backbones import Chain
from atomsml.io import write_atomically
from atomsml.io.hdf5_safety import DAMAGED, check_written, checked_arrays, open_hdf5, read_array, where

FORMAT = "atomsml backbones"
KINDS = {"offsets": "i", "coordinates": "f", "sequence": "S", "labels": "S", "name": "O", "where": "O", "file": "i"}


def store_chains(path: str | Path, files: Iterable[Sequence[Chain]]) -> None:
    """Write the chains of some files; `path` is complete or untouched.

    Raises:
        OSError: `path` cannot be written.
        ValueError: no chain.
    """
    numbered = [(number, chain) for number, chains in enumerate(files) for chain in chains]
    if not numbered:
        raise ValueError(f"{path}: no chain to write")
    chains = [chain for _, chain in numbered]
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs.update(format=FORMAT, format_version=1, atomsml_version=__version__)
        arrays = {
            "offsets": np.cumsum([0, *map(len, chains)]),
            "coordinates": np.concatenate([chain.coordinates for chain in chains]),
            "sequence": np.array([letter for chain in chains for letter in chain.sequence], "S1"),
            "labels": np.array([label for chain in chains for label in chain.labels], "S"),
            "file": np.array([number for number, _ in numbered]),
        }
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
        for name, texts in (("name", [c.name for c in chains]), ("where", [c.where for c in chains])):
            file.create_dataset(name, data=texts, dtype=h5py.string_dtype())
    write_atomically(path, lambda beside: beside.write_bytes(memory.getvalue()))


def are_stored(path: Path) -> bool:
    """Whether an HDF5 file says that it is one of `store_chains`.

    Raises:
        ValueError: no HDF5.
    """
    with open_hdf5(path) as file:
        try:
            return bool(file.attrs.get("format") == FORMAT)
        except Exception as error:  # where a file is damaged, h5py raises anything
            raise ValueError(f"{path}: its attributes cannot be read; {DAMAGED}") from error


def stored_chains(path: Path) -> Iterator[list[Chain]]:
    """The chains of one file after the other, as they were when they were stored.

    Raises:
        ValueError: another HDF5 file, or a damaged one; names the array.
    """
    if not are_stored(path):
        raise ValueError(f"{path}: holds no chains; give HDF5 that `atomsml data backbones` made")
    with open_hdf5(path) as file:
        arrays = checked_arrays(file)
        for name, kind in KINDS.items():
            if name not in arrays or arrays[name].dtype.kind != kind:
                raise ValueError(f"{path}: has no array {name!r} of its kind; {DAMAGED}")
            check_written(arrays[name])
        values = {name: read_array(array, text=KINDS[name] in "SO") for name, array in arrays.items() if name in KINDS}
        _check(arrays, values)
    chains = (
        Chain(
            values["coordinates"][first:end],
            "".join(values["sequence"][first:end]),
            tuple(values["labels"][first:end].tolist()),
            values["name"][index],
            where=values["where"][index],
        )
        for index, (first, end) in enumerate(pairwise(values["offsets"].tolist()))
    )
    for _, together in groupby(zip(values["file"].tolist(), chains, strict=True), key=lambda pair: pair[0]):
        yield [chain for _, chain in together]


def _check(arrays: dict[str, h5py.Dataset], values: dict[str, np.ndarray]) -> None:
    """That the arrays fit together."""
    offsets, count = values["offsets"], len(values["file"])
    residues = int(offsets[-1]) if offsets.ndim == 1 and len(offsets) > 1 else -1
    shapes = {
        **{"offsets": (count + 1,), "file": (count,), "name": (count,), "where": (count,)},
        **{"coordinates": (residues, 4, 3), "sequence": (residues,), "labels": (residues,)},
    }
    for name, shape in shapes.items():
        if values[name].shape != shape:
            raise ValueError(f"{where(arrays[name])} must be of shape {shape}, got {values[name].shape}; {DAMAGED}")
    if offsets[0] != 0 or (np.diff(offsets) < 1).any():
        raise ValueError(f"{where(arrays['offsets'])} must ascend from 0; {DAMAGED}")
    if not np.isfinite(values["coordinates"]).all():
        raise ValueError(f"{where(arrays['coordinates'])} must be finite; {DAMAGED}")
    if any(len(letter) != 1 for letter in set(values["sequence"].tolist())):
        raise ValueError(f"{where(arrays['sequence'])} must be one letter each; {DAMAGED}")
