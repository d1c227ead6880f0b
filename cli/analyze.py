"""`atomsml analyze`: what a trajectory says: structure, diffusion, vibrations, density, heat capacity, bonds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import JsonOption
from atomsml.simulate.analysis import ANALYSES, analyze_file

if TYPE_CHECKING:
    import numpy as np

    from atomsml.io import OutputSet
    from atomsml.simulate.analysis import Told

ABOUT = "; ".join(f"{name}: {each.about}" for name, each in ANALYSES.items())


def analyze(
    context: typer.Context,
    trajectory: Annotated[Path, typer.Argument(help="The .h5 file of a run of md; or .extxyz, .traj, XDATCAR, ...")],
    only: Annotated[str | None, typer.Option(help=f"Of these, with commas between them. {ABOUT}.")] = None,
    skip: Annotated[float, typer.Option(min=0, help="Leave out the first so many fs.")] = 0.0,
    spacing: Annotated[
        float | None, typer.Option(min=0, help="fs from frame to frame, of files that do not say it: all but .h5.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for a table, .csv, and a picture of each analysis.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Analyse a trajectory, the systems of a run one by one.

    Without --only all is told that the trajectory can give. The exit status is 1 if one that was asked for cannot be.
    """
    from atomsml.cli.output import print_json

    names = _chosen(only)
    if not trajectory.is_file():
        raise FileNotFoundError(f"no file {trajectory}; check the path")
    told = analyze_file(trajectory, names, skip, spacing)
    written = [] if output is None else write_all(context, output, told)
    if as_json:
        print_json([_record(each) for each in told])
    else:
        print_all(told, written)
    say_refused(told, "note" if only is None else "error")
    if any((only and each.refused) or not each.found for each in told):
        raise typer.Exit(1)


def _chosen(only: str | None) -> list[str]:
    from atomsml.config import choose

    if only is None:
        return list(ANALYSES)
    return [choose("--only", word.strip(), ANALYSES) for word in only.split(",")]


def _record(told: Told) -> dict[str, Any]:
    from atomsml.cli.output import finite

    numbers = {name: {key: finite(value) for key, value in of.numbers.items()} for name, of in told.found.items()}
    return {"name": told.name, "frames": told.frames, "found": numbers, "refused": told.refused}


def print_all(told: Sequence[Told], written: Sequence[Path]) -> None:
    """A table of all numbers, and what was written."""
    from atomsml.cli.output import print_table

    rows = []
    for each in told:
        for name, of in each.found.items():
            for key, value in of.numbers.items():
                if not key.startswith("error of "):
                    error = of.numbers.get(f"error of {key}")
                    rows.append([each.name, name, key, f"{value:.5g}", "-" if error is None else f"{error:.2g}"])
    print_table(["system", "analysis", "quantity", "value", "error"], rows)
    for path in written:
        typer.echo(f"wrote {path}")


def say_refused(told: Sequence[Told], kind: str) -> None:
    """Which analyses found nothing, and why; of a system of which nothing at all is found, as an error."""
    for each in told:
        for name, reason in each.refused.items():
            typer.echo(f"{kind if each.found else 'error'}: no {name} of {each.name}: {reason}", err=True)


def write_all(context: typer.Context, folder: Path, told: Sequence[Told]) -> list[Path]:
    """A CSV file and a picture of each table of each system; returns them."""
    from atomsml.cli.files import open_outputs
    from atomsml.cli.output import check_writable, numbered

    tables: dict[Path, dict[str, np.ndarray]] = {}
    for number, each in enumerate(told):
        for of in each.found.values():
            for word, columns in of.tables.items():
                tables[numbered(folder / f"{word}.csv", len(told))[number]] = columns
    targets = [path.with_suffix(suffix) for path in tables for suffix in (".csv", ".png")]
    for target in targets:
        check_writable(target)
    with open_outputs(context, None, targets) as files:
        for path, columns in tables.items():
            files.write(path, partial(_write_csv, columns=columns))
            _draw(files, path.with_suffix(".png"), columns)
    return targets


def _write_csv(path: Path, columns: dict[str, np.ndarray]) -> None:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def _draw(files: OutputSet, path: Path, columns: dict[str, np.ndarray]) -> None:
    """All columns against the first."""
    from matplotlib.figure import Figure

    (across, x), *curves = columns.items()
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, y in curves:
        axes.plot(x, y, label=name, linewidth=1)
    axes.set_xlabel(across)
    axes.margins(x=0)
    if len(curves) == 1:
        axes.set_ylabel(curves[0][0])
    else:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    files.write(path, lambda beside: figure.savefig(beside, dpi=150))
