"""What training looks like on a terminal, whatever is trained: bars, lines, train.log, and a gentle end."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from atomsml.io.outputs import naming_file
from atomsml.signals import exit_status, first_stop_noted

if TYPE_CHECKING:
    from atomsml.training.base_run import BaseRun, Progress


def train_to_the_end(
    run: BaseRun[Any, Any], facts: Iterable[str], errors: Callable[[dict[str, Any]], Iterable[str]]
) -> None:
    """Train until a limit is reached; `facts` are the first lines, `errors` what is said of an evaluation.

    Ctrl-C and a batch system's SIGTERM end it after the step that is under way, with a checkpoint; one more at once.

    Raises:
        typer.Exit: it was interrupted; a line says how to go on.
        ValueError, OSError: as `run.steps`.
    """

    def request() -> None:
        run.stop_requested = True

    keep_freed_memory()
    with first_stop_noted(request) as stops, _log_file(run) as say:
        for line in facts:
            say(line)
        if run.state.step:
            say(f"resumed at step {run.state.step}, epoch {run.state.epoch + 1}")
        for progress in _with_bar(run):
            if progress.metrics is not None:
                say(_line(progress.metrics, errors(progress.metrics)))
        if stops:
            say(f"interrupted: stopped at step {run.state.step}; go on with `atomsml train --resume -o {run.folder}`")
            raise typer.Exit(exit_status(stops[0]))


def keep_freed_memory() -> None:
    """Tell glibc to reuse what is freed: page faults of fresh buffers are a tenth of a step. Elsewhere do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(option, 10**9)


@contextmanager
def _log_file(run: BaseRun[Any, Any]) -> Iterator[Callable[[str], None]]:
    """A function that prints a line on stderr and appends it to train.log."""
    if not run.world.is_first:
        yield lambda line: None
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / "train.log"
    with naming_file(path), path.open("a", encoding="utf-8") as file:

        def say(line: str) -> None:
            typer.echo(line, err=True)
            file.write(line + "\n")
            file.flush()

        yield say


def _with_bar(run: BaseRun[Any, Any]) -> Iterator[Progress]:
    """The steps of a run, with a progress bar on a terminal."""
    if not (sys.stderr.isatty() and run.world.is_first):
        yield from run.steps()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("train", total=1.0)
        for progress in run.steps():
            step = progress.step
            bar.update(
                task,
                completed=progress.done,
                description=f"epoch {step.epoch + 1}  step {step.number:,}  loss {step.loss:.4g}",
            )
            yield progress


def _line(metrics: dict[str, Any], errors: Iterable[str]) -> str:
    parts = [
        f"epoch {metrics['epoch']:4d}",
        f"step {metrics['step']:7,d}",
        f"{metrics['minutes']:7.2f} min",
        f"rate {metrics['learning_rate']:.1e}",
        f"loss {metrics['train_loss']:.4g} train {metrics['valid_loss']:.4g} valid",
    ]
    return "  ".join([*parts, *errors, *(["best"] if metrics["best"] else [])])
