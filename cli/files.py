"""The output files of one command: what is refused before the work, and what is said where it ends early."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import typer

if TYPE_CHECKING:
    from atomsml.io import OutputSet

P = ParamSpec("P")

OUTPUT_OPTIONS = ("output", "trajectory", "plot", "picture", "csv", "report")
LEAST_PAUSE, PAUSE_PER_COST = 0.5, 20.0  # s; and times what the last writing took: a twentieth of a run at most


@contextmanager
def open_outputs(
    context: typer.Context, output: Path | None, named: Sequence[Path | None], derived: Sequence[Path] = ()
) -> Iterator[OutputSet]:
    """The output files of a command and their summary as one set; says what a killed run had left.

    Args:
        output: beside which the summary stands, if there is one.
        named: files that the command line names.
        derived: files whose names follow from that of `output` because a name was given for that.

    Raises:
        ValueError: two outputs of one name, an output that is an input, or a derived name that is somebody else's.
        OSError: as OutputSet. Where the block raises these two, what was finished is named as well.
        typer.Exit: the block was interrupted and did not see to it; one line says what is kept.
    """
    from atomsml.io import OutputSet
    from atomsml.signals import exit_status

    chosen = [path for path in named if path is not None]
    derived = derived if output is None else [*derived, summary_path(output)]
    targets = [*chosen, *derived]
    check_distinct(targets, context)
    if output is not None:
        _check_derived(output, derived)
    files = OutputSet(targets)
    try:
        with files:
            for sentence in files.remains:
                typer.echo(f"note: {sentence}", err=True)
            yield files
    except KeyboardInterrupt as stop:
        kept = f"what was finished is in {_listed(files.kept)}" if files.kept else "nothing is written"
        typer.echo(f"interrupted: {kept}", err=True)
        raise typer.Exit(exit_status(stop)) from None
    except (ValueError, OSError) as error:
        if not files.kept:
            raise
        kind = ValueError if isinstance(error, ValueError) else OSError
        raise kind(f"{error}; what was finished is in {_listed(files.kept)}") from error


def end_interrupted(files: OutputSet, stop: KeyboardInterrupt | ChildProcessError, kept: str) -> NoReturn:
    """Say in one line what a set holds that was ended early and where the older files are; end with the status.

    Args:
        stop: a request to stop, or how the process of a device died.
    """
    from atomsml.signals import exit_status

    older = f"; what stood there before is in {_listed(files.previous)}" if files.previous else ""
    if isinstance(stop, KeyboardInterrupt):
        typer.echo(f"interrupted: {kept}{older}", err=True)
        raise typer.Exit(exit_status(stop))
    typer.echo(f"error: {stop}; {kept}{older}", err=True)
    raise typer.Exit(1)


def check_distinct(targets: Sequence[Path], context: typer.Context) -> None:
    """Refuse outputs that would overwrite each other or what the command reads, also through links.

    Raises:
        ValueError: says which.
    """
    inputs = list(_inputs(context))
    seen: dict[Path, Path] = {}
    for path in targets:
        other = seen.setdefault(path.resolve(), path)
        if other is not path:
            raise ValueError(f"two outputs would be one file, {path}; choose another name for one of them")
        for source in inputs if path.exists() else ():
            if path.samefile(source):
                raise ValueError(f"{path} is an input as well ({source}); choose another output")
            if source.is_dir() and path.resolve().is_relative_to(source.resolve()):
                raise ValueError(f"{path} is in the folder {source}, which is read; choose another output")


def _inputs(context: typer.Context) -> Iterator[Path]:
    """Every file and folder that the command line names, other than the outputs."""
    for name, value in context.params.items():
        if name in OUTPUT_OPTIONS:
            continue
        for word in value if isinstance(value, list | tuple) else [value]:
            if isinstance(word, str | Path) and word and is_path(word):
                yield Path(word)


def is_path(word: str | Path) -> bool:
    """Whether a word of a command line is a file or folder that is there."""
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # a long SMILES is no file name
        return False


def _check_derived(output: Path, derived: Sequence[Path]) -> None:
    """Refuse to replace files that only derive their names from `output` and are not of an earlier run of it.

    Raises:
        ValueError: says which.
    """
    known = earlier_files(output)
    for path in derived:
        if path.exists() and path.name not in known:
            raise ValueError(
                f"{path} would be overwritten, and is not of an earlier run with the output {output}; move it away, "
                "or choose another output"
            )


def earlier_files(output: Path) -> set[str]:
    """Names of the files that the summary beside `output` lists, and its own; none of a summary of another output."""
    path = summary_path(output)
    try:
        summary: Any = json.loads(path.read_text(encoding="utf-8"))
        listed = {Path(each).name for each in summary["outputs"]}
        named = Path(summary["options"]["output"] or summary["outputs"][0]).name
        return {path.name, *listed} if output.name in (named, *listed) else set()
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return set()


def summary_path(output: Path) -> Path:
    from atomsml.io.outputs import beside

    return beside(output, ".summary.json")


def now_and_then(write: Callable[P, object]) -> Callable[P, None]:
    """A function that calls `write`, but not so often that it would matter: what a killed run had finished is kept."""
    due = 0.0

    def write_if_due(*args: P.args, **kwargs: P.kwargs) -> None:
        nonlocal due
        start = time.monotonic()
        if start < due:
            return
        write(*args, **kwargs)
        end = time.monotonic()
        due = end + max(LEAST_PAUSE, PAUSE_PER_COST * (end - start))

    return write_if_due


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(_shown(path) for path in paths)


def _shown(path: Path) -> str:
    """Relative to the working folder, where it is in there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
