"""Motion: the arrays of one system over time, from whatever file has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch

from atomsml.geometry import periodic_lattice
from atomsml.io.formats.run_trajectory import is_trajectory
from atomsml.io.records import Refused
from atomsml.io.trajectory import SystemTrajectory, Trajectory
from atomsml.units import FS


@dataclass(frozen=True, eq=False)
class Motion:
    """One system over time; what is None the file does not have."""

    name: str
    numbers: np.ndarray  # (atoms,)
    masses: np.ndarray  # (atoms,) u
    pbc: np.ndarray  # (3,)
    positions: np.ndarray  # (frames, atoms, 3) A, not wrapped
    cell: np.ndarray  # (frames, 3, 3) A
    velocities: np.ndarray | None  # (frames, atoms, 3) A/fs
    energy: np.ndarray | None  # (frames,) eV, potential and kinetic together
    temperature: np.ndarray | None  # (frames,) K
    spacing: float | None  # fs from frame to frame
    settings: dict[str, Any]  # of the run

    @property
    def times(self) -> np.ndarray:
        """(frames,) fs.

        Raises:
            ValueError: the file does not say it.
        """
        if self.spacing is None:
            raise ValueError("the file does not say how much time lies between frames; give it with --spacing")
        return np.arange(len(self.positions)) * self.spacing

    @property
    def axis(self) -> dict[str, np.ndarray]:
        """The column that frames are drawn against: their times, or numbers where these are not known."""
        frames = np.arange(len(self.positions))
        return {"frame": frames} if self.spacing is None else {"time [fs]": frames * self.spacing}

    def require_one_replica(self) -> None:
        """
        Raises:
            ValueError: replicas were exchanged, and frames that follow each other need not be of one.
        """
        if self.settings.get("replicas"):
            raise ValueError("replicas were exchanged: frames that follow each other need not be of one of them")

    def require_frames(self, count: int) -> None:
        """
        Raises:
            ValueError: there are fewer.
        """
        if len(self.positions) < count:
            raise ValueError(f"{len(self.positions)} frames are too few; it takes {count}")

    @property
    def volumes(self) -> np.ndarray:
        """(frames,) A^3.

        Raises:
            ValueError: the system is not periodic along all axes.
        """
        if not self.pbc.all():
            raise ValueError("the system has no volume: it is not periodic along all axes")
        return np.abs(np.linalg.det(self.cell))


def read_motions(path: str | Path, skip: float = 0.0, spacing: float | None = None) -> Iterator[Motion]:
    """The systems of a file, one after the other: of our HDF5 each that has frames, of others all frames as one.

    Args:
        skip: fs at the beginning that are left out: in which the system had not settled.
        spacing: fs between frames, of a file that does not say it.

    Raises:
        ValueError: a file that cannot be read, or in which atoms come and go.
    """
    path = Path(path)
    if is_trajectory(path):
        with Trajectory(path) as trajectory:
            yield from (_of_run(system, skip) for system in trajectory.systems if len(system))
    else:
        yield _of_frames(path, skip, spacing)


def _of_run(system: SystemTrajectory, skip: float) -> Motion:
    trajectory = system.trajectory
    spacing = trajectory.interval * trajectory.timestep
    rows = slice(_skipped(skip, spacing, len(system), system.name), None)
    quantities = trajectory.quantities
    has_kinetic = "kinetic" in quantities
    return Motion(
        name=system.name,
        numbers=system.numbers,
        masses=system.masses,
        pbc=system.pbc,
        positions=system.read("positions", rows),
        cell=system.read("cell", rows),
        velocities=system.read("velocities", rows),
        energy=system.read("energy", rows) + system.read("kinetic", rows) if has_kinetic else None,
        temperature=system.read("temperature", rows) if "temperature" in quantities else None,
        spacing=spacing,
        settings=dict(trajectory.about.get("settings") or {}),
    )


def _of_frames(path: Path, skip: float, spacing: float | None) -> Motion:
    from atomsml.io.files import read_records

    frames: list[ase.Atoms] = []
    for record in read_records([str(path)]):
        if isinstance(record, Refused):
            raise ValueError(str(record))
        if frames and not np.array_equal(record.atoms.numbers, frames[0].numbers):
            raise ValueError(f"{path}, frame {record.index}: has other atoms than frame 0; give one system at a time")
        frames.append(record.atoms)
    if skip and spacing is None:
        raise ValueError(f"{path} does not say how much time lies between frames; give it with --spacing")
    frames = frames[_skipped(skip, spacing or 1.0, len(frames), str(path)) :]
    return motion_of_frames(frames, str(frames[0].symbols), spacing)


def motion_of_frames(frames: Sequence[ase.Atoms], name: str, spacing: float | None) -> Motion:
    """Of frames of the same atoms, which may have been wrapped into their cells."""
    moves = all(atoms.has("momenta") for atoms in frames)
    knows = moves and all(atoms.calc is not None and "energy" in atoms.calc.results for atoms in frames)
    cell = np.stack([atoms.cell.array for atoms in frames])
    return Motion(
        name=name,
        numbers=frames[0].numbers,
        masses=frames[0].get_masses(),
        pbc=frames[0].pbc,
        positions=unwrapped(np.stack([atoms.positions for atoms in frames]), cell, frames[0].pbc),
        cell=cell,
        velocities=np.stack([atoms.get_velocities() for atoms in frames]) * FS if moves else None,
        energy=np.array([atoms.get_total_energy() for atoms in frames]) if knows else None,
        temperature=np.array([atoms.get_temperature() for atoms in frames]) if moves else None,
        spacing=spacing,
        settings={},
    )


def unwrapped(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """(frames, atoms, 3) A: the same atoms, each going the shortest way from frame to frame.

    Right where none goes half a cell between two frames, in fractional coordinates: the cell may change.
    """
    fractional = fractions(positions, cell, pbc)
    steps = np.diff(fractional, axis=0)
    steps -= np.round(steps) * pbc
    fractional = np.concatenate([fractional[:1], fractional[:1] + np.cumsum(steps, axis=0)])
    return fractional @ lattices(cell, pbc)


def fractions(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """(frames, atoms, 3) coordinates along the cell vectors; along open axes along unit vectors across, in A."""
    return positions @ np.linalg.inv(lattices(cell, pbc))


def lattices(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """(frames, 3, 3) A: the cells with unit vectors along open axes."""
    found: np.ndarray = periodic_lattice(torch.from_numpy(cell), torch.from_numpy(pbc)).numpy()
    return found


def _skipped(skip: float, spacing: float, frames: int, name: str) -> int:
    count = int(np.ceil(skip / spacing))
    if count >= frames:
        raise ValueError(f"{name}: all {frames} frames lie in the first {skip:g} fs, which are to be skipped")
    return count
