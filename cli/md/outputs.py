"""Where frames go: one HDF5 file for all structures, from which a run can go on, or a file of ASE for each."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from atomsml.cli.md.series import Series, header, line, series_of, values_of

if TYPE_CHECKING:
    from atomsml.cli.md.batches import Batches
    from atomsml.cli.md.settings import Settings
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import OutputSet, StructureRecord
    from atomsml.simulate.md import Frame
    from atomsml.simulate.trajectory import Checkpoint, TrajectoryWriter

NATIVE = ".h5"


@dataclass(frozen=True)
class Files:
    """Of one structure, or of all in one."""

    trajectory: Path
    log: Path
    plot: Path

    @staticmethod
    def of(trajectory: Path) -> Files:
        from atomsml.io.outputs import beside

        return Files(trajectory, beside(trajectory, ".csv"), beside(trajectory, ".png"))


class Output(ABC):
    """Takes frames as they come; structures are numbered as those that run."""

    named: list[Path]  # files of the set that the command line names
    derived: list[Path]  # and those whose names follow
    of_ladder: Sequence[Path] = ()  # of these the walk and the picture of replicas that are exchanged
    ladder: Mapping[str, Any] = MappingProxyType({})  # for the summary: what these tell, after `finish`

    @abstractmethod
    def writing(
        self, files: OutputSet, structures: Sequence[StructureRecord], plan: Callable[[], Batches]
    ) -> AbstractContextManager[Batches]:
        """A context in which frames are taken; gives the batches, which `plan` makes where no earlier run has them."""

    def earlier_batches(self) -> Batches | None:
        """Those of a run that goes on."""
        return None

    @abstractmethod
    def checkpoint(self, batch: int) -> Checkpoint | None:
        """From where a batch goes on, if it has begun."""

    @abstractmethod
    def take(self, frame: Frame, checkpoint: Checkpoint) -> None:
        """Write a frame of a batch, and from where it goes on after it."""

    @abstractmethod
    def finish(self, files: OutputSet, titles: Sequence[str], atoms: Sequence[int]) -> list[Series]:
        """Logs and plots; returns what each structure was like, of one without a frame nothing."""

    @abstractmethod
    def files_of(self, system: int) -> Files: ...

    @abstractmethod
    def endings(self) -> Mapping[int, str]:
        """Why structures ended before their time, after `finish`."""


@dataclass
class NativeOutput(Output):
    """One HDF5 file, written in its place and readable from the first frame on; log and plot come at the end."""

    path: Path
    settings: Settings
    identity: dict[str, Any]
    model: str  # name or path
    resume: bool
    named: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = Files.of(self.path)
        self.of_ladder = _of_ladder(self.path) if self.settings.replicas else []
        self.derived = [self.files.log, self.files.plot, *self.of_ladder]
        self._endings: dict[int, str] = {}

    @contextmanager
    def writing(
        self, files: OutputSet, structures: Sequence[StructureRecord], plan: Callable[[], Batches]
    ) -> Iterator[Batches]:
        from atomsml.io.outputs import naming_file
        from atomsml.simulate.trajectory import Recorder, TrajectoryWriter

        with naming_file(self.path):
            batches = self.earlier_batches()
            if batches is not None:
                writer = TrajectoryWriter(self.path)
            else:
                batches = plan()
                writer = self._create(structures, batches)
            try:
                with writer:
                    self.recorder = Recorder(writer)
                    yield batches
                    self.recorder.commit()
            finally:
                if not writer.frames.any():
                    self.path.unlink(missing_ok=True)

    def _create(self, structures: Sequence[StructureRecord], batches: Batches) -> TrajectoryWriter:
        from atomsml.cli.job import label
        from atomsml.simulate.trajectory import TrajectoryWriter

        self.path.parent.mkdir(parents=True, exist_ok=True)
        return TrajectoryWriter.create(
            self.path,
            [structure.atoms for structure in structures],
            self.settings.timestep,
            self.settings.interval,
            self._names([label(structure) for structure in structures]),
            {
                "settings": asdict(self.settings),
                "model": {"name": self.model, "sha256": self.identity["model"]},
                "batches": batches,
                "run": self.identity,
            },
        )

    def _names(self, labels: list[str]) -> list[str]:
        """Of the systems in the file: those of a ladder are its temperatures."""
        if not self.settings.replicas:
            return labels
        return [f"{label} at {t:g} K" for label, t in zip(labels, self.settings.replicas, strict=True)]

    def earlier_batches(self) -> Batches | None:
        """Those of the run that goes on: the same, with at least one frame; None where it begins.

        Raises:
            ValueError: there is another run, or one whose batches are not known.
        """
        from atomsml.cli.simulate.identity import check_same_run
        from atomsml.io.trajectory import Trajectory

        if not (self.resume and self.path.exists()):
            return None
        with Trajectory(self.path) as trajectory:
            check_same_run(trajectory.about.get("run", {}), self.identity, self.path)
            if not trajectory.frames.any():
                return None
            batches: Batches = trajectory.about.get("batches", [])
            if sorted(itertools.chain(*batches)) != list(range(len(trajectory.systems))):
                raise ValueError(
                    f"{self.path} does not say which structures run together, as files of other versions of atomsml; "
                    "begin anew with another output"
                )
            return batches

    def checkpoint(self, batch: int) -> Checkpoint | None:
        writer = self.recorder.writer
        return writer.checkpoint(batch) if batch in writer.begun else None

    def take(self, frame: Frame, checkpoint: Checkpoint) -> None:
        self._endings |= {lost.index: lost.reason for lost in frame.lost}
        self.recorder.take(frame, checkpoint)

    def finish(self, files: OutputSet, titles: Sequence[str], atoms: Sequence[int]) -> list[Series]:
        from atomsml.cli.md.replicas import Ladder
        from atomsml.io.trajectory import Trajectory

        if not self.path.exists():
            return [Series(np.arange(0), np.arange(0.0), {})] * len(titles)
        with Trajectory(self.path) as trajectory:
            found = [series_of(system) for system in trajectory.systems]
            self._endings |= trajectory.endings
            if self.settings.replicas and trajectory.frames.all():
                ladder = Ladder.of(trajectory)
                ladder.write(files, *self.of_ladder)
                self.ladder = {"replica_exchange": ladder.facts()}
        several = len(found) > 1

        def write(beside: Path) -> None:
            with beside.open("w", encoding="utf-8") as file:
                file.write(header(several))
                for number, run in enumerate(found):
                    run.write(file, number if several else None)

        files.write(self.files.log, write)
        shown = [i for i, run in enumerate(found) if len(run)]
        title = f"{len(titles)} structures" if several else titles[0]
        title = f"{titles[0]} at {len(titles)} temperatures" if self.settings.replicas else title
        if shown:
            what = [found[i] for i in shown], [atoms[i] for i in shown], self.settings, title
            files.write(self.files.plot, partial(_drawn, what))
        return found

    def files_of(self, system: int) -> Files:
        return self.files

    def endings(self) -> Mapping[int, str]:
        return self._endings


@dataclass
class ASEOutput(Output):
    """For each structure a trajectory that ASE reads, with log and plot beside it, numbered as the inputs are."""

    path: Path
    settings: Settings
    numbers: Sequence[int]  # of the inputs that run
    inputs: int
    calculator: AtomsMLCalculator

    def __post_init__(self) -> None:
        alone = self.inputs == 1
        paths = [self.path] if alone else [self.path.with_stem(f"{self.path.stem}-{i}") for i in self.numbers]
        self._files = [Files.of(path) for path in paths]
        self.named = paths if alone else []
        self.derived = [path for each in self._files for path in (each.trajectory, each.log, each.plot)]
        self.derived = [path for path in self.derived if path not in self.named]
        self._rows: list[list[tuple[int, dict[str, float]]]] = [[] for _ in paths]
        self._endings: dict[int, str] = {}

    @contextmanager
    def writing(
        self, files: OutputSet, structures: Sequence[StructureRecord], plan: Callable[[], Batches]
    ) -> Iterator[Batches]:
        from atomsml.cli.output import trajectory_writer

        self._set, self._structures = files, [structure.atoms for structure in structures]
        with ExitStack() as stack:
            self._write = [stack.enter_context(trajectory_writer(files, each.trajectory)) for each in self._files]
            yield plan()

    def checkpoint(self, batch: int) -> None:
        return None

    def take(self, frame: Frame, checkpoint: Checkpoint) -> None:
        from atomsml.signals import held_stops

        self._endings |= {lost.index: lost.reason for lost in frame.lost}
        if frame.state.num_systems:
            with held_stops():  # frames and their lines, or neither
                self._append(frame)

    def _append(self, frame: Frame) -> None:
        from atomsml.cli.simulate.results import complete

        indices, values = frame.state.index.tolist(), values_of(frame)
        images = frame.state.write_to([self._structures[i] for i in indices])
        for row, (system, atoms) in enumerate(zip(indices, images, strict=True)):
            complete(atoms, self.calculator)
            self._write[system](atoms)
            columns = {name: float(column[row]) for name, column in values.items()}
            self._log(self._files[system].log, frame.step, columns, first=not self._rows[system])
            self._rows[system].append((frame.step, columns))

    def _log(self, path: Path, step: int, columns: dict[str, float], first: bool) -> None:
        from atomsml.io.outputs import naming_file

        with naming_file(path), self._set.growing(path).open("a", encoding="utf-8") as file:
            file.write((header() if first else "") + line(step, step * self.settings.timestep, columns))

    def finish(self, files: OutputSet, titles: Sequence[str], atoms: Sequence[int]) -> list[Series]:
        found = []
        for system, rows in enumerate(self._rows):
            steps = np.array([step for step, _ in rows])
            names = rows[0][1] if rows else {}
            values = {name: np.array([columns[name] for _, columns in rows]) for name in names}
            found.append(Series(steps, steps * self.settings.timestep, values))
            if rows:
                what = found[-1:], atoms[system : system + 1], self.settings, titles[system]
                files.write(self._files[system].plot, partial(_drawn, what))
        return found

    def files_of(self, system: int) -> Files:
        return self._files[system]

    def endings(self) -> Mapping[int, str]:
        return self._endings


def _of_ladder(trajectory: Path) -> list[Path]:
    from atomsml.io.outputs import beside

    return [beside(trajectory, f".replicas{suffix}") for suffix in (".csv", ".png")]


def _drawn(what: tuple[Sequence[Series], Sequence[int], Settings, str], path: Path) -> None:
    from atomsml.cli.md.plot import draw

    draw(path, *what)
