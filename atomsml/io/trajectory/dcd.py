"""DCD, as CHARMM, NAMD and OpenMM write it: positions in float32, for programs that look at trajectories.

A file is a sequence of Fortran records: the length, the bytes, the length again; little-endian, lengths in int32.

| record | content |
|---|---|
| header | "CORD" and 20 int32: 0 frames, 1 first step, 2 steps from frame to frame, 3 steps in all, 9 the time step |
| | in AKMA units of 48.888 fs (float32), 10 whether there is a cell, 19 the version of CHARMM; the rest is 0 |
| title | number of lines, lines of 80 characters |
| atoms | their number |
| of each frame | cell: a, gamma, b, beta, alpha, c (float64; A and degrees); then x, y and z of all atoms (float32) |

The cell has no orientation, so that positions are turned to where readers expect it: a along x, b in the plane of x and
y. Velocities, energies and elements are not in a DCD.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from ase.cell import Cell

from atomsml.io.trajectory.reader import SystemTrajectory

AKMA = 48.88821290839617  # fs
VERSION = 24  # of CHARMM, which says that there may be a cell
BLOCK = 64  # frames that are read at a time


def write_dcd(system: SystemTrajectory, path: Path) -> None:
    frames, atoms, interval = len(system), len(system.numbers), system.trajectory.interval
    numbers = [frames, 0, interval, frames * interval, 0, 0, 0, 0, 0, 0, 1, *[0] * 8, VERSION]
    header = bytearray(b"CORD" + struct.pack("<20i", *numbers))
    struct.pack_into("<f", header, 4 + 9 * 4, system.trajectory.timestep / AKMA)
    with path.open("wb") as file:
        _record(file, bytes(header))
        _record(file, struct.pack("<i80s", 1, b"atomsml".ljust(80)))
        _record(file, struct.pack("<i", atoms))
        for start in range(0, frames, BLOCK):
            rows = slice(start, start + BLOCK)
            for cell, positions in zip(system.read("cell", rows), system.read("positions", rows), strict=True):
                lengths_and_angles, turned = _standing(cell, positions)
                _record(file, lengths_and_angles[[0, 5, 1, 4, 3, 2]].astype("<f8").tobytes())
                for axis in turned.T.astype("<f4"):
                    _record(file, axis.tobytes())


def _record(file: BinaryIO, content: bytes) -> None:
    length = struct.pack("<i", len(content))
    file.write(length + content + length)


def _standing(cell: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a, b, c, alpha, beta, gamma, and the positions where a is along x and b in the plane of x and y."""
    if Cell(cell).rank < 3:
        return np.where(np.arange(6) < 3, 0.0, 90.0), positions
    right_handed = cell * np.array([1, 1, np.sign(np.linalg.det(cell))])[:, None]  # the same lattice
    parameters: np.ndarray = Cell(right_handed).cellpar()
    _, turn = Cell(right_handed).standard_form()
    return parameters, positions @ turn.T
