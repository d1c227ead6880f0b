"""What commands print and write: tables, progress, structures, trajectories, and the summary of a run."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    import ase

    from atomsml.io import OutputSet

State = TypeVar("State")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, the same on a terminal and in a file; cells that are all numbers stand to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [bool(rows) and all(_is_number(cell) for cell in column[1:]) for column in columns]
    for row in (header, *rows):
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        typer.echo("  ".join(cells).rstrip())


def _is_number(text: str) -> bool:
    return text in ("-", "nan") or text.lstrip("-").replace(".", "", 1).isdigit()


def finite(value: float) -> float | None:
    """JSON has no NaN: None instead."""
    return value if math.isfinite(value) else None


def number(value: float | None, digits: int) -> str:
    """A number for a table, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


def follow(states: Iterable[State], total: int | None, label: str, describe: Callable[[State], str]) -> Iterator[State]:
    """Pass states on, showing a progress bar on a terminal, and about ten plain lines per run in a log.

    Where `total` is not known, the bar runs to and fro, and a line comes every hundred states.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        text = TextColumn("{task.fields[text]}")
        with Progress(*columns, text, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(label, total=total, text="")
            for step, state in enumerate(states):
                progress.update(task, completed=step, text=describe(state))
                yield state
        return
    every, end = (100, "") if total is None else (max(1, total // 10), f"/{total}")
    for step, state in enumerate(states):
        if step % every == 0:
            typer.echo(f"{label}  step {step}{end}  {describe(state)}", err=True)
        yield state


def check_output(path: Path, images: int) -> None:
    """Refuse an output file of structures before the work rather than after it.

    Raises:
        ValueError: a suffix that is no format ASE writes, or a format that holds one structure for several `images`.
        OSError: the path cannot be written.
    """
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    from atomsml.io.sdf import MOL_FILES

    check_writable(path)
    if path.suffix.lower() in MOL_FILES:
        if path.suffix.lower() == ".mol" and images > 1:
            raise ValueError(f"cannot write {images} structures to {path}: a MOL file holds one; use .sdf")
        return
    try:
        known = ioformats.get(filetype(str(path), read=False))
    except UnknownFileTypeError:  # no suffix at all
        known = None
    if known is None or not known.can_write:
        raise ValueError(f"cannot write {path}: its suffix is no format that ASE writes; use .extxyz, .traj, .cif, ...")
    if known.single and images > 1:
        raise ValueError(f"cannot write {images} structures to {path}: {known.name} holds one; use .extxyz or .traj")


def check_trajectory(path: Path, *more: str) -> None:
    """Refuse an output file of many frames, as `check_output` does; `more` are suffixes that are taken as well."""
    check_writable(path)
    known = [*more, ".extxyz", ".xyz", ".traj"]
    if path.suffix not in known:
        raise ValueError(f"cannot write a trajectory to {path}; use the suffix {', '.join(known[:-1])} or {known[-1]}")


def numbered(path: Path, count: int) -> list[Path]:
    """`md.extxyz` for one structure; `md-0.extxyz`, `md-1.extxyz`, ... for several."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(count)]


def check_picture(path: Path) -> None:
    """Refuse an output file of a plot, as `check_output` does."""
    check_writable(path)
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"cannot draw {path}; use the suffix .png, .pdf or .svg")


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written; its folder may still have to be made.

    Raises:
        OSError: a folder, or a path in something that is no folder or takes no files.
    """
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; name a file in it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"cannot write {path}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write {path}: no permission to write in {folder}")


def snapshot(atoms: ase.Atoms) -> ase.Atoms:
    """A copy that carries what was computed as plain numbers, and how uncertain it is."""
    return with_results(atoms.copy(), atoms.calc.results)


def with_results(atoms: ase.Atoms, computed: Mapping[str, Any]) -> ase.Atoms:
    """The same atoms, which now carry these results of a model as plain numbers."""
    from ase.calculators.singlepoint import SinglePointCalculator

    results = {key: computed[key] for key in ("energy", "forces", "stress", "charges", "dipole") if key in computed}
    # among the results of a calculator ASE has no names for these
    for key, kept in (("energy_std", atoms.info), ("stress_std", atoms.info), ("forces_std", atoms.arrays)):
        kept.pop(key, None)  # an input file may hold those of another model
        if key in computed:
            kept[key] = computed[key]
    if "quadrupole" in computed:
        atoms.info["quadrupole"] = computed["quadrupole"]
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def write_structures(files: OutputSet, path: Path, images: list[ase.Atoms]) -> None:
    """Write structures in the format that the suffix of `path` means; bonds of the input where they still hold.

    Raises:
        ValueError: structures that this format cannot hold.
        OSError: the path cannot be written.
    """
    import ase.io

    from atomsml.io.sdf import MOL_FILES, bonds_hold, write_structure_mols

    for atoms in images:
        if "bonds" in atoms.info and not bonds_hold(atoms):
            del atoms.info["bonds"]  # it reacted: formal charges went with them
            atoms.arrays.pop("initial_charges", None)

    def write(beside: Path) -> None:
        try:
            if path.suffix.lower() in MOL_FILES:
                write_structure_mols(beside, images)
            else:
                ase.io.write(beside, images)
        except OSError:
            raise
        except Exception as error:  # ASE's writers raise anything where a structure does not fit the format
            raise ValueError(f"cannot write {path} in this format: {error}; use .extxyz or .traj") from error

    files.write(path, write)


@contextmanager
def trajectory_writer(files: OutputSet, path: Path | None) -> Iterator[Callable[[ase.Atoms], None]]:
    """A function that appends a frame with its results to what is to be `path`; without a path it does nothing.

    What it has returned from is on the disk, whatever happens to the run.
    """
    from ase.io.extxyz import write_extxyz
    from ase.io.trajectory import TrajectoryWriter

    from atomsml.io.outputs import naming_file
    from atomsml.signals import held_stops

    if path is None:
        yield lambda atoms: None
        return

    def append(atoms: ase.Atoms) -> None:
        with held_stops(), naming_file(path):
            frame = snapshot(atoms)
            frame.info.pop("bonds", None)  # those of the input, which need not hold any more
            write(frame)

    with naming_file(path):
        if path.suffix == ".traj":
            with TrajectoryWriter(files.growing(path)) as trajectory:
                write = trajectory.write
                yield append
        else:
            with files.growing(path).open("w", encoding="utf-8") as file:

                def write(frame: ase.Atoms) -> None:
                    write_extxyz(file, [frame])
                    file.flush()

                yield append


@dataclass(frozen=True)
class Facts:
    """What the summary of a run says beyond its command line."""

    model: str  # name or path
    device: str
    structures: int
    started: float  # time.perf_counter() before anything was read
    results: dict[str, Any] = field(default_factory=dict)  # further entries


def write_summary(
    files: OutputSet,
    path: Path,
    context: typer.Context,
    facts: Facts,
    outputs: Sequence[Path | str],
    failed: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Write `<stem>.summary.json` beside the output `path`: what is needed to repeat the run and to judge it.

    Returns what it holds.
    """
    from atomsml.cli.files import summary_path
    from atomsml.io.versions import library_versions

    options = {key: value for key, value in context.params.items() if key not in ("inputs", "config")}
    summary = {
        "command": context.info_name,
        "inputs": context.params.get("inputs", []),
        "options": {**options, "model": facts.model},
        "model": model_facts(facts.model),
        "device": facts.device,
        "seed": context.params.get("seed"),
        "versions": library_versions(),
        "structures": facts.structures,
        "interrupted": files.interrupted,
        "failed": list(failed),
        "outputs": [str(output) for output in outputs],
        "wall_time_s": round(time.perf_counter() - facts.started, 3),
        **facts.results,
    }
    text = json.dumps(summary, indent=1, default=str)
    files.write(summary_path(path), lambda beside: beside.write_text(text + "\n", encoding="utf-8"))
    return summary


def model_facts(model: str) -> dict[str, Any]:
    """Name and hash, of a committee that of every member; and the note of its file."""
    from atomsml.modelfile import model_hash, named_model, read_metadata
    from atomsml.uncertainty import committee_files
    from atomsml.uncertainty.last_layer import is_uncertainty, model_of

    if named_model(model) is None and Path(model).is_dir():
        return {"name": model, "sha256": [model_hash(file) for file in committee_files(model)]}
    note = read_metadata(model_of(model) if is_uncertainty(model) else model).get("note")
    return {"name": model, "sha256": model_hash(model)} | ({"note": note} if note else {})
