"""Where frames go: one HDF5 file for all structures, from which a run can go on, or a file of ASE for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomsml.cli.md.series import Series, header, line, series_of, values_of

if TYPE_CHECKING:
    from atomsml.cli.md.settings import Settings
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import OutputSet, StructureRecord
    from atomsml.simulate.md import Frame
    from atomsml.simulate.model import Model
    from atomsml.simulate.trajectory import Checkpoint

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

    @abstractmethod
    def writing(self, files: OutputSet, structures: Sequence[StructureRecord]) -> Any:
        """A context in which frames are taken."""

    @abstractmethod
    def begun(self) -> Checkpoint | None:
        """From where the run goes on, if it does."""

    @abstractmethod
    def take(self, frames: Iterable[Frame], model: Model, batch: int) -> Generator[Frame]:
        """Write the frames of a batch, and pass them on."""

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
        self.derived = [self.files.log, self.files.plot]
        self._endings: dict[int, str] = {}

    @contextmanager
    def writing(self, files: OutputSet, structures: Sequence[StructureRecord]) -> Iterator[None]:
        from atomsml.cli.job import label
        from atomsml.io.outputs import naming_file
        from atomsml.simulate.trajectory import TrajectoryWriter

        with naming_file(self.path):
            if self._can_resume():
                writer = TrajectoryWriter(self.path)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                writer = TrajectoryWriter.create(
                    self.path,
                    [structure.atoms for structure in structures],
                    self.settings.timestep,
                    self.settings.interval,
                    [label(structure) for structure in structures],
                    {
                        "settings": asdict(self.settings),
                        "model": {"name": self.model, "sha256": self.identity["model"]},
                        "run": self.identity,
                    },
                )
            try:
                with writer:
                    self.writer = writer
                    yield
            finally:
                if not writer.frames.any():
                    self.path.unlink(missing_ok=True)

    def _can_resume(self) -> bool:
        """Whether there is a run, the same, with at least one frame.

        Raises:
            ValueError: there is another run.
        """
        from atomsml.cli.simulate.identity import check_same_run
        from atomsml.io.trajectory import Trajectory

        if not (self.resume and self.path.exists()):
            return False
        with Trajectory(self.path) as trajectory:
            check_same_run(trajectory.about.get("run", {}), self.identity, self.path)
            return bool(trajectory.frames.any())

    def begun(self) -> Checkpoint | None:
        return self.writer.checkpoint() if self.writer.frames.any() else None

    def take(self, frames: Iterable[Frame], model: Model, batch: int) -> Generator[Frame]:
        from atomsml.simulate.trajectory import record

        with closing(record(frames, self.writer, model, {"batch": batch})) as recorded:  # which writes the last frame
            for frame in recorded:
                self._endings |= {lost.index: lost.reason for lost in frame.lost}
                yield frame

    def finish(self, files: OutputSet, titles: Sequence[str], atoms: Sequence[int]) -> list[Series]:
        from atomsml.io.trajectory import Trajectory

        if not self.path.exists():
            return [Series(np.arange(0), np.arange(0.0), {})] * len(titles)
        with Trajectory(self.path) as trajectory:
            found = [series_of(system) for system in trajectory.systems]
            self._endings |= trajectory.endings
        several = len(found) > 1

        def write(beside: Path) -> None:
            with beside.open("w", encoding="utf-8") as file:
                file.write(header(several))
                for number, run in enumerate(found):
                    run.write(file, number if several else None)

        files.write(self.files.log, write)
        shown = [i for i, run in enumerate(found) if len(run)]
        title = f"{len(titles)} structures" if several else titles[0]
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
    def writing(self, files: OutputSet, structures: Sequence[StructureRecord]) -> Iterator[None]:
        from atomsml.cli.output import trajectory_writer

        self._set, self._structures = files, [structure.atoms for structure in structures]
        with ExitStack() as stack:
            self._write = [stack.enter_context(trajectory_writer(files, each.trajectory)) for each in self._files]
            yield

    def begun(self) -> None:
        return None

    def take(self, frames: Iterable[Frame], model: Model, batch: int) -> Generator[Frame]:
        from atomsml.signals import held_stops

        for frame in frames:
            self._endings |= {lost.index: lost.reason for lost in frame.lost}
            if frame.state.num_systems:
                with held_stops():  # frames and their lines, or neither
                    self._append(frame)
            yield frame

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


def _drawn(what: tuple[Sequence[Series], Sequence[int], Settings, str], path: Path) -> None:
    from atomsml.cli.md.plot import draw

    draw(path, *what)
