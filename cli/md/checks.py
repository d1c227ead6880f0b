"""What md refuses, or warns of, before the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atomsml.cli.md.settings import LONG_FOR_HYDROGEN, ladder

if TYPE_CHECKING:
    from atomsml.cli.job import Job


def ladder_of(
    context: typer.Context, words: str | None, exchange: int | None, device: str, output: Path
) -> tuple[float, ...]:
    """The temperatures of --replicas, if they are asked for.

    Raises:
        ValueError: words that are none, or options that do not go with it, or not without it.
    """
    from atomsml.cli.md.outputs import NATIVE

    if words is None:
        if exchange is not None:
            raise ValueError("--exchange says how often replicas swap; give their temperatures with --replicas")
        return ()
    source = context.get_parameter_source("temperature")
    if source is not None and source.name != "DEFAULT":
        raise ValueError("--replicas and --temperature both say how hot it is; leave one out")
    if context.params["shard"] is not None:
        raise ValueError("replicas move together, in one run; leave --shard out")
    if "," in device:
        raise ValueError(f"replicas move together, on one device; got --device {device}")
    if output.suffix != NATIVE:
        raise ValueError(f"--replicas needs one file for all, as {output.with_suffix(NATIVE)}; got {output}")
    return ladder(words)


def check_output(path: Path, resume: bool, analyze: bool) -> None:
    """Refuse before the work what could not be written.

    Raises:
        ValueError: a format that holds no trajectory, or from which no run goes on; a run that is there.
        OSError: a path that cannot be written.
    """
    from atomsml.cli.md.outputs import NATIVE
    from atomsml.cli.output import check_trajectory, check_writable

    if path.suffix == NATIVE:
        check_writable(path)
        if path.exists() and not resume:
            raise ValueError(f"{path} is there already; --resume goes on with the run in it, or choose another output")
        return
    check_trajectory(path, NATIVE)
    if analyze:
        raise ValueError(f"--analyze needs one file for all, as {path.with_suffix(NATIVE)}; got {path}")
    if resume:
        raise ValueError(f"--resume needs a file from which a run can go on, as {path.with_suffix(NATIVE)}; got {path}")


def warn_of_long_steps(job: Job, timestep: float) -> None:
    if timestep > LONG_FOR_HYDROGEN and any(1 in structure.atoms.numbers for structure in job.structures):
        typer.echo(f"note: steps of {timestep:g} fs are long for hydrogen, which needs 0.5 to 1 fs", err=True)
