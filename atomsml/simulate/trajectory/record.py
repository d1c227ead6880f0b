"""record: write the frames of a run as they come."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any

from torch import Tensor

from atomsml.simulate.md import Frame
from atomsml.simulate.model import Model
from atomsml.simulate.trajectory.checkpoint import Checkpoint
from atomsml.simulate.trajectory.writer import TrajectoryWriter


def record(
    frames: Iterable[Frame], writer: TrajectoryWriter, model: Model, progress: Mapping[str, Any] | None = None
) -> Generator[Frame]:
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

    Args:
        progress: goes into the checkpoint as it is then.

    Raises:
        OSError: a full disk; the file is as it was after the last commit.
    """
    frame = None
    try:
        for frame in frames:
            _write(frame, writer)
            if writer.is_due:
                writer.commit(_checkpoint(frame, model, progress))
            yield frame
    except GeneratorExit:
        if frame is not None:
            writer.commit(_checkpoint(frame, model, progress))
        raise
    if frame is not None:
        writer.commit(_checkpoint(frame, model, progress))


def _write(frame: Frame, writer: TrajectoryWriter) -> None:
    """Unless it is there: the first frame of a run that goes on is the last that was written."""
    for lost in frame.lost:
        writer.end(lost.index, lost.reason)
    if not writer.has(frame.state):
        writer.append(frame.state, _quantities(frame))


def _quantities(frame: Frame) -> dict[str, Tensor]:
    found = {"kinetic": frame.kinetic, "temperature": frame.temperature, "conserved": frame.conserved}
    if bool(frame.state.stress.isfinite().any()):
        found |= {"stress": frame.state.stress, "pressure": frame.pressure}
    return found


def _checkpoint(frame: Frame, model: Model, progress: Mapping[str, Any] | None) -> Checkpoint:
    return Checkpoint.of(frame.state, frame.memory, model, dict(progress or {}))
