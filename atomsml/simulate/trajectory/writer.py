"""TrajectoryWriter: the frames of a run and its checkpoint go to one HDF5 file, in commits."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import h5py
import numpy as np
from torch import Tensor

from atomsml.io.outputs import write_atomically
from atomsml.io.trajectory.committed_file import USER_BLOCK, first_head
from atomsml.io.trajectory.committed_hdf5 import Closing, CommittedHDF5, damaged
from atomsml.io.trajectory.layout import FORMAT, make_quantity, read_text, write_text
from atomsml.signals import held_stops
from atomsml.simulate.state import State
from atomsml.simulate.trajectory.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from atomsml.units import FS

MOST_WAITING = 64 * 2**20  # bytes of frames that wait in memory for the next commit
LEAST_PAUSE, PAUSE_PER_COST = 0.5, 20.0  # s; and times what the last commit took: a twentieth of a run at most
OF_ATOMS = ("positions", "velocities", "forces")


@dataclass
class _Frames:
    """One frame of some systems, or several in a row."""

    index: np.ndarray  # (systems,) numbers of the systems in the run
    first: np.ndarray  # (systems,) number of the first frame of each
    atoms: dict[str, np.ndarray]  # (frames, atoms, ...)
    systems: dict[str, np.ndarray]  # (frames, systems, ...)


class TrajectoryWriter(Closing):
    """Adds frames to the file of a run. After each `commit` all is on the disk, frames and checkpoint together.

    `create` begins a file, and the constructor goes on with one. `append` takes frames; when `is_due`, and at the end,
    `commit` writes them. A process that is killed loses what came after its last commit, and the run goes on from the
    checkpoint of that commit.

    Raises:
        OSError: no such file, another process is writing it, or the disk is full: what was committed stays.
        ValueError: it is no trajectory, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        self._file = CommittedHDF5(path, writes=True)
        self._hdf5 = self._file.hdf5
        try:
            about = read_text(self._hdf5, "about")
        except Exception as error:
            self.close()
            raise damaged(path, error) from error
        self._interval: int = about["interval"]
        self._offsets: np.ndarray = self._hdf5["offsets"][()]
        self._frames: np.ndarray = self._hdf5["frames"][()]
        self._endings: dict[str, str] = read_text(self._hdf5, "endings")
        self._waiting: list[_Frames] = []
        self._pause_until = 0.0

    @staticmethod
    def create(
        path: str | Path,
        structures: Sequence[ase.Atoms],
        timestep: float,
        interval: int = 1,
        names: Sequence[str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> TrajectoryWriter:
        """A new file, in place of any that is there.

        Args:
            path: .h5
            structures: of which the systems of the run have the numbers: `state.index` 0 is the first.
            timestep: fs.
            interval: steps from frame to frame.
            names: of the structures; by default their formulas.
            about: what else is worth knowing: settings, model and its hash; anything that JSON can hold.
        """
        names = [str(atoms.symbols) for atoms in structures] if names is None else names
        said = {
            "format": FORMAT,
            "interval": interval,
            "timestep": timestep,
            **(about or {}),
            "structures": [_described(atoms, name) for atoms, name in zip(structures, names, strict=True)],
        }
        content = _skeleton(structures, said)
        write_atomically(path, lambda beside: beside.write_bytes(content))
        return TrajectoryWriter(path)

    @property
    def frames(self) -> np.ndarray:
        """(systems,) how many frames each system has, those that wait included."""
        return self._frames.copy()

    @property
    def is_due(self) -> bool:
        """Whether it is time for a commit."""
        waiting = sum(x.nbytes for frames in self._waiting for x in (*frames.atoms.values(), *frames.systems.values()))
        return bool(self._waiting) and (time.monotonic() >= self._pause_until or waiting > MOST_WAITING)

    def append(self, state: State, quantities: Mapping[str, Tensor]) -> None:
        """Take a frame of each system of a state; `quantities` are what else is known of each system, (systems, ...).

        Raises:
            ValueError: a step that is no multiple of the interval, or a frame that is not the next of its system.
        """
        index, steps = state.index.cpu().numpy(), state.step.cpu().numpy()
        if (steps % self._interval).any() or (steps // self._interval != self._frames[index]).any():
            expected = self._frames[index] * self._interval
            raise ValueError(f"the next frames are those after the steps {expected.tolist()}, got {steps.tolist()}")
        atoms = {name: getattr(state, name) for name in OF_ATOMS}
        atoms["velocities"] = atoms["velocities"] * FS
        systems = {"cell": state.cell, "energy": state.energy, **quantities}
        first = self._frames[index]
        self._waiting.append(_Frames(index, first, _rows(atoms), _rows(systems)))
        self._frames[index] += 1

    def has(self, state: State) -> bool:
        """Whether the frame of each system of a state is there already."""
        frames = state.step.cpu().numpy() // self._interval
        return bool((frames < self._frames[state.index.cpu().numpy()]).all())

    @property
    def begun(self) -> set[int]:
        """The numbers of the batches of which there is a checkpoint."""
        return {int(number) for number in self._hdf5["checkpoint"] if number.isdecimal()}

    def checkpoint(self, batch: int = 0) -> Checkpoint:
        """That of the last commit.

        Raises:
            ValueError: there is none, or it is of another version of atomsml.
        """
        try:
            return read_checkpoint(self._hdf5["checkpoint"], batch)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}; start anew") from error

    def end(self, system: int, reason: str) -> None:
        """Note why a system, by its number in the run, ends before its last step."""
        self._endings[str(system)] = reason

    def commit(self, *checkpoints: Checkpoint) -> None:
        """Write what waits, and from where the batches that have moved since the last commit go on.

        Raises:
            OSError: a full disk, or whatever the system says; the file is as it was after the last commit.
        """
        start = time.monotonic()
        with held_stops():
            for frames in _joined(self._waiting):
                self._write(frames)
            self._hdf5["frames"][...] = self._frames
            write_text(self._hdf5, "endings", self._endings)
            for checkpoint in checkpoints:
                self._write_masses(checkpoint.state)
                write_checkpoint(self._hdf5["checkpoint"], checkpoint)
            self._file.commit()
            self._waiting.clear()
        end = time.monotonic()
        self._pause_until = end + max(LEAST_PAUSE, PAUSE_PER_COST * (end - start))

    def close(self) -> None:
        """Without a commit: frames that wait are lost."""
        self._file.close()

    def _write(self, frames: _Frames) -> None:
        """Frames of systems that follow each other in the file as in the batch, as one block each."""
        sizes = np.diff(self._offsets)[frames.index]
        ends = np.cumsum(sizes)
        follows = (np.diff(frames.index) == 1) & (np.diff(frames.first) == 0)
        borders = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(frames.index)]
        for i, j in itertools.pairwise(borders):
            start, stop = frames.index[i], frames.index[j - 1] + 1
            rows = frames.first[i]
            here, there = slice(ends[i] - sizes[i], ends[j - 1]), slice(self._offsets[start], self._offsets[stop])
            for name, values in frames.atoms.items():
                self._put("atoms", name, rows, there, values[:, here], self._offsets[-1])
            for name, values in frames.systems.items():
                self._put("systems", name, rows, slice(start, stop), values[:, i:j], len(self._frames))

    def _write_masses(self, state: State) -> None:
        """With which the atoms move, which need not be those of the structures."""
        masses = self._hdf5["masses"][()]
        atoms = [np.arange(*self._offsets[i : i + 2]) for i in state.index.tolist()]
        masses[np.concatenate([np.arange(0), *atoms])] = state.masses.cpu().numpy()
        self._hdf5["masses"][...] = masses

    def _put(self, level: str, name: str, first: int, columns: slice, values: np.ndarray, width: int) -> None:
        group = self._hdf5[level]
        shape = (int(width), *values.shape[2:])
        array = group[name] if name in group else make_quantity(group, name, shape, values.dtype)
        last = first + len(values)
        if len(array) < last:
            array.resize(last, axis=0)
        array[first:last, columns] = values


def _rows(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies with a row for one frame."""
    return {name: np.array(tensor.detach().cpu().numpy())[None] for name, tensor in tensors.items()}


def _joined(waiting: Sequence[_Frames]) -> list[_Frames]:
    """Those together that are frames of the same systems, one after the other."""
    groups: list[list[_Frames]] = []
    for frames in waiting:
        before = groups[-1] if groups else []
        follows = (
            bool(before)
            and np.array_equal(before[0].index, frames.index)
            and np.array_equal(before[0].first + len(before), frames.first)
            and before[0].systems.keys() == frames.systems.keys()
        )
        if follows:
            before.append(frames)
        else:
            groups.append([frames])
    return [_stacked(group) for group in groups]


def _stacked(group: Sequence[_Frames]) -> _Frames:
    first = group[0]
    return _Frames(
        first.index,
        first.first,
        {name: np.concatenate([each.atoms[name] for each in group]) for name in first.atoms},
        {name: np.concatenate([each.systems[name] for each in group]) for name in first.systems},
    )


def _described(atoms: ase.Atoms, name: str) -> dict[str, Any]:
    """What the frames of a structure do not say: its name, labels, tags and constraints, as JSON can hold them."""
    known = ("numbers", "positions", "momenta", "masses")
    return {
        "name": name,
        "info": _plain({key: value for key, value in atoms.info.items() if key != "bonds"}),
        "arrays": _plain({key: array for key, array in atoms.arrays.items() if key not in known}),
        "constraints": [_plain(constraint.todict()) for constraint in atoms.constraints],
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that JSON can hold; arrays as lists."""
    found = {}
    for key, value in values.items():
        with contextlib.suppress(TypeError, ValueError):
            found[key] = json.loads(json.dumps(value, allow_nan=False, default=_listed))
    return found


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"JSON holds no {type(value).__name__}")


def _skeleton(structures: Sequence[ase.Atoms], about: Mapping[str, Any]) -> bytes:
    """A file without frames."""
    memory = io.BytesIO()
    with h5py.File(memory, "w", userblock_size=USER_BLOCK) as file:
        write_text(file, "about", about)
        write_text(file, "endings", {})
        file["numbers"] = np.concatenate([atoms.numbers for atoms in structures]).astype(np.int64)
        file["masses"] = np.concatenate([atoms.get_masses() for atoms in structures])
        file["offsets"] = np.cumsum([0, *(len(atoms) for atoms in structures)])
        file["pbc"] = np.stack([atoms.pbc for atoms in structures])
        file["frames"] = np.zeros(len(structures), dtype=np.int64)
        file.create_group("checkpoint")
        atoms, systems = file.create_group("atoms"), file.create_group("systems")
        double = np.dtype(np.float64)
        for name in OF_ATOMS:
            make_quantity(atoms, name, (len(file["numbers"]), 3), double)
        make_quantity(systems, "cell", (len(structures), 3, 3), double)
        make_quantity(systems, "energy", (len(structures),), double)
    content = memory.getvalue()
    return first_head(len(content)) + content[USER_BLOCK:]
