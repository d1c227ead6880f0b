"""What is where in the HDF5 file of a run.

| path | shape | meaning |
|---|---|---|
| about | text | JSON: format, interval (steps between frames), timestep (fs), structures, settings, model, batches |
| numbers, masses | (atoms,) | of all systems, one after the other; u |
| offsets | (systems + 1,) | where the atoms of each system begin and end |
| pbc | (systems, 3) | periodic or not |
| frames | (systems,) | how many frames there are of each system |
| endings | text | JSON: why systems have fewer frames than others, by their number |
| atoms/NAME | (frames, atoms, ...) | a row for each frame; atoms of a system that has ended are NaN |
| systems/NAME | (frames, systems, ...) | the same |
| checkpoint/NUMBER/... | | from where each batch goes on: see `atomsml.simulate.trajectory` |

Frame f of a system is that after f * interval of its steps, whenever it was computed. Each quantity has an attribute
"unit". HDF5 proper begins after 512 bytes that committed_file.py uses, which HDF5 programs skip.
"""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np

FORMAT = 1
CHUNK = 2**17  # bytes of a quantity that are compressed at a time
LEAST_ROWS, MOST_ROWS = 16, 1024  # frames in a chunk
UNITS = {
    "positions": "A",
    "velocities": "A/fs",
    "forces": "eV/A",
    "cell": "A",
    "energy": "eV",
    "kinetic": "eV",
    "conserved": "eV",
    "temperature": "K",
    "pressure": "eV/A^3",
    "stress": "eV/A^3",
    "volume": "A^3",
    "time": "fs",
}


def write_text(file: h5py.Group, name: str, value: Any) -> None:
    """JSON under a name, in place of what was there; of fixed length, which reads without a heap."""
    if name in file:
        del file[name]
    file.create_dataset(name, data=np.bytes_(json.dumps(value, allow_nan=False)))


def read_text(file: h5py.Group, name: str) -> Any:
    """
    Raises:
        ValueError: it is no JSON.
    """
    array = file[name]
    if not isinstance(array, h5py.Dataset) or array.dtype.kind != "S" or array.shape != ():
        raise ValueError(f"{name} is no text")
    return json.loads(bytes(array[()]).decode())


def make_quantity(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    """An array of frames, none yet, whose rows have this shape: of all atoms or all systems."""
    row = max(1, int(np.prod(shape[1:])) * dtype.itemsize)  # bytes of an atom or system
    rows = int(np.clip(CHUNK // (row * max(1, shape[0])), LEAST_ROWS, MOST_ROWS))
    columns = int(np.clip(CHUNK // (row * rows), 1, max(1, shape[0])))
    array = group.create_dataset(
        name,
        shape=(0, *shape),
        maxshape=(None, *shape),
        chunks=(rows, columns, *shape[1:]),
        dtype=dtype,
        fillvalue=np.nan if dtype.kind == "f" else 0,
        shuffle=True,
        compression="gzip",
        compression_opts=1,
    )
    array.attrs["unit"] = np.bytes_(UNITS.get(name, ""))
    return array
