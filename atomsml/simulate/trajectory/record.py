"""record: write the frames of a run as they come; a Recorder does it for several batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from torch import Tensor

from atomsml.simulate.dynamics.replica_exchange import Ladder
from atomsml.simulate.md import Frame
from atomsml.simulate.model import Model
from atomsml.simulate.trajectory.checkpoint import Checkpoint
from atomsml.simulate.trajectory.writer import TrajectoryWriter


class Recorder:
    """Takes frames of batches in any order, and commits them with their checkpoints now and then."""

    def __init__(self, writer: TrajectoryWriter) -> None:
        self.writer = writer
        self._moved: dict[int, Checkpoint] = {}  # since the last commit, by batch

    def take(self, frame: Frame, checkpoint: Checkpoint) -> None:
        """A frame, and from where its batch goes on after it.

        Raises:
            OSError: a full disk; the file is as it was after the last commit.
        """
        for lost in frame.lost:
            self.writer.end(lost.index, lost.reason)
        if not self.writer.has(frame.state):  # the first frame of a run that goes on is the last that was written
            self.writer.append(frame.state, _quantities(frame))
        self._moved[checkpoint.batch] = checkpoint
        if self.writer.is_due:
            self.commit()

    def commit(self) -> None:
        """Whatever waits."""
        if self._moved:
            self.writer.commit(*self._moved.values())
            self._moved.clear()


def record(frames: Iterable[Frame], writer: TrajectoryWriter, model: Model) -> Generator[Frame]:
    """Pass on the frames of `md` and write them, with a checkpoint now and then and at the end.

        with TrajectoryWriter.create(path, structures, timestep=1.0, interval=10) as writer:
            for frame in record(md(structures, model, integrator, 1000, every=10), writer, model):
                ...

    and, after the process was killed, with the same integrator:

        with TrajectoryWriter(path) as writer:
            state, memory = writer.checkpoint().restore(integrator, model)
            left = 1000 - int(state.step.max())
            for frame in record(md(state, model, integrator, left, every=10, memory=memory), writer, model):
                ...

    Whoever stops taking frames finds the last one that was taken in the file.

    Raises:
        OSError: a full disk; the file is as it was after the last commit.
    """
    recorder = Recorder(writer)
    try:
        for frame in frames:
            recorder.take(frame, Checkpoint.of(frame.state, frame.memory, model))
            yield frame
    except GeneratorExit:
        recorder.commit()
        raise
    recorder.commit()


def _quantities(frame: Frame) -> dict[str, Tensor]:
    found = {"kinetic": frame.kinetic, "temperature": frame.temperature, "conserved": frame.conserved}
    if bool(frame.state.stress.isfinite().any()):
        found |= {"stress": frame.state.stress, "pressure": frame.pressure}
    if isinstance(frame.memory, Ladder):
        found |= {name: getattr(frame.memory, name) for name in ("replica", "tried", "swapped")}
    return found
