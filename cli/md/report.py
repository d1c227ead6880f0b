"""The page of `atomsml md --report`: trajectories to play, with energies and temperature beside them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import ase

    from atomsml.cli.md.outputs import Output
    from atomsml.cli.md.series import Series
    from atomsml.io import OutputSet
    from atomsml.report import Fragment, Frames

# columns of the log that follow the frames, where they are finite and change
CURVES = {
    "potential_eV": "potential energy (eV)",
    "conserved_eV": "conserved energy (eV)",
    "temperature_K": "temperature (K)",
    "pressure_GPa": "pressure (GPa)",
    "volume_A^3": "volume (Å³)",
}
PICOSECONDS = 10_000.0  # fs: longer times are said in ps


def page_parts(
    files: OutputSet,
    output: Output,
    series: Sequence[Series],
    records: Sequence[dict[str, Any]],
    refused: Sequence[dict[str, Any]],
) -> list[Fragment]:
    """What --report shows: structures with a frame at least, the picture if there is one of all, and what went wrong.

    Args:
        series: of each structure.
        records: of those with a frame.
        refused: of inputs that did not.
    """
    from atomsml.cli.md.records import table_of
    from atomsml.cli.md.replicas import ladder_parts
    from atomsml.report import Scene, bullets, image, section, viewer

    shown = [system for system, run in enumerate(series) if len(run)]
    with _frames(files, output, len(series)) as frames:
        scenes = [
            Scene(_name(record), frames[i], _labels(series[i]), _curves(series[i]))
            for i, record in zip(shown, records, strict=True)
        ]
        view = viewer(scenes, *table_of(records))
    parts = [section("Trajectories", view)]
    if output.ladder:
        parts.append(section("Replica exchange", *ladder_parts(output.ladder, files.growing(output.of_ladder[1]))))
    plots = list(dict.fromkeys(output.files_of(system).plot for system in shown))
    if len(plots) == 1:
        parts.append(section("In time", image(files.growing(plots[0]), "energies, temperature and more against time")))
    early = [f"{_name(record)}: {record['reason']}" for record in records if not record["finished"]]
    early += [f"{each['file']}, frame {each['index']}: {each['refused']}" for each in refused]
    return parts + ([section("Not finished", bullets(early))] if early else [])


def _name(record: dict[str, Any]) -> str:
    at = f" at {record['temperature']:g} K" if "temperature" in record else ""
    return f"{record['file']}, frame {record['index']}: {record['formula']}{at}"


def _labels(run: Series) -> list[str]:
    in_ps = len(run) and run.time[-1] >= PICOSECONDS
    return [f"{time / 1000:,.3f} ps" if in_ps else f"{time:,g} fs" for time in run.time.tolist()]


def _curves(run: Series) -> dict[str, list[float]]:
    found = {}
    for column, name in CURVES.items():
        values = run.values[column]
        if np.isfinite(values).any() and np.nanmin(values) < np.nanmax(values):
            found[name] = values.tolist()
    return found


@contextmanager
def _frames(files: OutputSet, output: Output, systems: int) -> Iterator[Sequence[Frames]]:
    """The frames of each structure, read when they are asked for."""
    from ase.io.trajectory import Trajectory as ASETrajectory

    from atomsml.cli.md.outputs import NATIVE
    from atomsml.io.trajectory import Trajectory

    paths = [output.files_of(system).trajectory for system in range(systems)]
    if paths[0].suffix == NATIVE:
        with Trajectory(paths[0]) as trajectory:
            yield trajectory.systems
        return
    kind = ASETrajectory if paths[0].suffix == ".traj" else XYZFrames
    yield [kind(files.growing(path)) if files.growing(path).exists() else [] for path in paths]


class XYZFrames:
    """Frames of an extended XYZ file that this command wrote, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ends = [0]
        with path.open("rb") as file:
            while (first := file.readline()).strip():
                for _ in range(int(first) + 1):
                    file.readline()
                self._ends.append(file.tell())

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, frame: int) -> ase.Atoms:
        from ase.io.extxyz import read_xyz

        start, end = self._ends[frame : frame + 2]
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.read(end - start).decode("utf-8")
        return next(read_xyz(io.StringIO(text), 0))
