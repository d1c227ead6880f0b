"""Trajectory: the HDF5 file of a run, read lazily, also while it is written.

>>> import ase.build, torch
>>> from atomsml.io.trajectory import Trajectory
>>> trajectory = Trajectory("run.h5")  # doctest: +SKIP
>>> copper = trajectory.systems[0]  # doctest: +SKIP
>>> copper.read("positions", slice(0, 100)).shape  # doctest: +SKIP
(100, 108, 3)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import ase
import numpy as np

from atomsml.io.hdf5_safety import DAMAGED
from atomsml.io.trajectory.committed_hdf5 import Closing, ConsistentReader
from atomsml.io.trajectory.layout import FORMAT, LEAST_ROWS, read_text
from atomsml.units import FS


class Trajectory(Closing):
    """The frames of all systems of a run. The model with which it was made is not needed.

    What another process adds is there as soon as it is committed: the number of frames grows.

    Args:
        path: an HDF5 file that `atomsml md` or a TrajectoryWriter wrote.

    Raises:
        OSError: no such file.
        ValueError: it is no trajectory, damaged, or of a later version of atomsml.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = ConsistentReader(self.path)
        self.about: dict[str, Any] = self._file.read(lambda file: read_text(file, "about"))
        version = self.about.get("format")
        if not isinstance(version, int) or version > FORMAT:
            raise ValueError(f"{self.path}: has the format {version}, this atomsml reads up to {FORMAT}; update it")
        self._numbers, self._masses = self._array("numbers"), self._array("masses")
        self._offsets, self._pbc = self._array("offsets"), self._array("pbc")
        self._check()
        self.systems = [SystemTrajectory(self, i) for i in range(len(self._pbc))]

    def _check(self) -> None:
        steps = np.diff(self._offsets)
        whole = len(self._offsets) == len(self._pbc) + 1 == len(self.about["structures"]) + 1
        if not whole or self._offsets[0] != 0 or (steps < 0).any() or self._offsets[-1] != len(self._numbers):
            raise ValueError(f"{self.path}: numbers of atoms and systems contradict each other; {DAMAGED}")

    @property
    def interval(self) -> int:
        """Steps from frame to frame."""
        return int(self.about["interval"])

    @property
    def timestep(self) -> float:
        """fs."""
        return float(self.about["timestep"])

    @property
    def frames(self) -> np.ndarray:
        """(systems,) number of frames of each system."""
        return self._array("frames")

    @property
    def endings(self) -> dict[int, str]:
        """Why systems ended before their last step, by their number."""
        return {int(i): str(reason) for i, reason in self._file.read(lambda file: read_text(file, "endings")).items()}

    @property
    def quantities(self) -> dict[str, str]:
        """What there is of each frame, and whether of each "atom" or of each "system"."""
        names = self._file.read(lambda file: {of: list(file[of]) for of in ("atoms", "systems")})
        return {name: of.removesuffix("s") for of, inside in names.items() for name in inside}

    def close(self) -> None:
        self._file.close()

    def _array(self, name: str) -> np.ndarray:
        return self._file.read(lambda file: np.asarray(file[name]))


class SystemTrajectory:
    """The frames of one system of a Trajectory."""

    def __init__(self, trajectory: Trajectory, index: int) -> None:
        self.trajectory, self.index = trajectory, index
        start, stop = trajectory._offsets[index : index + 2].tolist()
        self._atoms = slice(start, stop)
        self.numbers = trajectory._numbers[self._atoms]  # (atoms,)
        self.masses = trajectory._masses[self._atoms]  # (atoms,) u
        self.pbc = trajectory._pbc[index]  # (3,)
        self.name = str(self._structure.get("name", index))

    @property
    def _structure(self) -> dict[str, Any]:
        structure: dict[str, Any] = self.trajectory.about["structures"][self.index]
        return structure

    def __len__(self) -> int:
        return int(self.trajectory.frames[self.index])

    def read(self, name: str, frames: slice = slice(None)) -> np.ndarray:
        """A quantity at some frames, (frames, atoms, ...) or (frames, ...); A, A/fs, eV, eV/A, eV/A^3, K.

        Raises:
            KeyError: the file has no such quantity.
        """
        level = self.trajectory.quantities.get(name)
        if level is None:
            raise KeyError(f"{self.trajectory.path} has no {name}, only {', '.join(self.trajectory.quantities)}")
        rows = slice(*frames.indices(len(self)))
        if rows.step < 0:
            return self.read(name)[frames]
        part = self._atoms if level == "atom" else self.index
        return self.trajectory._file.read(lambda file: np.asarray(file[f"{level}s/{name}"][rows, part]))

    def times(self, frames: slice = slice(None)) -> np.ndarray:
        """(frames,) fs."""
        return np.arange(len(self))[frames] * self.trajectory.interval * self.trajectory.timestep

    def to_ase(self, frame: int) -> ase.Atoms:
        """A frame with its velocities, and with energy, forces and stress as far as they are there.

        Labels, tags and constraints are those of the structure with which the run began.

        Raises:
            IndexError: there is no such frame.
        """
        count = len(self)
        if not -count <= frame < count:
            raise IndexError(f"frame {frame} of {count} of {self.name} in {self.trajectory.path}")
        row = slice(frame % count, frame % count + 1)
        values = {name: self.read(name, row)[0] for name in self.trajectory.quantities}
        return self._atoms_of(values)

    @overload
    def __getitem__(self, frames: int) -> ase.Atoms: ...
    @overload
    def __getitem__(self, frames: slice) -> list[ase.Atoms]: ...
    def __getitem__(self, frames: int | slice) -> ase.Atoms | list[ase.Atoms]:
        if isinstance(frames, slice):
            return [self.to_ase(i) for i in range(*frames.indices(len(self)))]
        return self.to_ase(frames)

    def __iter__(self) -> Iterator[ase.Atoms]:
        for start in range(0, len(self), LEAST_ROWS):  # that are compressed together
            rows = slice(start, start + LEAST_ROWS)
            values = {name: self.read(name, rows) for name in self.trajectory.quantities}
            for i in range(len(values["positions"])):
                yield self._atoms_of({name: array[i] for name, array in values.items()})

    @cached_property
    def _start(self) -> ase.Atoms:
        """What all frames have in common."""
        from ase.constraints import dict2constraint

        atoms = ase.Atoms(numbers=self.numbers, pbc=self.pbc, info=dict(self._structure["info"]))
        if not np.array_equal(atoms.get_masses(), self.masses):
            atoms.set_masses(self.masses)
        for name, values in self._structure["arrays"].items():
            atoms.set_array(name, np.asarray(values))
        atoms.set_constraint([dict2constraint(each) for each in self._structure["constraints"]])
        return atoms

    def _atoms_of(self, values: Mapping[str, np.ndarray]) -> ase.Atoms:
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = self._start.copy()
        constraints = atoms.constraints
        atoms.set_constraint()
        atoms.set_cell(values["cell"])
        atoms.positions = values["positions"]
        if "velocities" in values:
            atoms.set_velocities(values["velocities"] / FS)
        atoms.set_constraint(constraints)
        results: dict[str, Any] = {name: values[name] for name in ("energy", "forces") if name in values}
        if "energy" in results:
            results["energy"] = float(results["energy"])
        if "stress" in values and np.isfinite(values["stress"]).all():
            results["stress"] = values["stress"].ravel()[[0, 4, 8, 5, 2, 1]]
        atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms
