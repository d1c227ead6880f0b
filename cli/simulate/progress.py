"""How far a long run is: a bar on a terminal, and in a log plain lines, which become rare as the run grows long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import typer

PAUSE, PAUSE_PER_ELAPSED = 3.0, 0.05  # s before each line of a log, at least; and times what has passed so far


class Report(Protocol):
    def __call__(self, done: float, text: str) -> None: ...


@contextmanager
def progress(label: str, total: int) -> Iterator[Report]:
    """A function to call with how much of `total` is done, and with what else is worth saying."""
    if sys.stderr.isatty():
        with _bar(label, total) as report:
            yield report
    else:
        yield _lines(label, total)


@contextmanager
def _bar(label: str, total: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    text = TextColumn("{task.fields[text]}")
    with Progress(*columns, text, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, text="")

        def report(done: float, text: str) -> None:
            bar.update(task, completed=done, text=text)

        yield report


def _lines(label: str, total: int) -> Report:
    start = time.monotonic()
    due = start + PAUSE

    def report(done: float, text: str) -> None:
        nonlocal due
        now = time.monotonic()
        if now < due:
            return
        elapsed = now - start
        due = now + max(PAUSE, PAUSE_PER_ELAPSED * elapsed)
        left = f"  {duration(elapsed * (total - done) / done)} left" if 0 < done < total else ""
        typer.echo(f"{label}  {done:.0f}/{total}  {text}{left}", err=True)

    return report


def duration(seconds: float) -> str:
    """As people say it: 42 s, 3:05 min, 2:07 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 100 else f"{minutes // 60}:{minutes % 60:02d} h"
