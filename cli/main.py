"""The `atomsml` command: its subcommands, and the one place where errors become one line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from atomsml import __version__
from atomsml.cli import analyze, convert, data, energy, info, uncertainty
from atomsml.cli.evaluate import backbones as evaluate_backbones
from atomsml.cli.evaluate import likelihood as evaluate_likelihood
from atomsml.cli.evaluate import molecules as evaluate_molecules
from atomsml.cli.evaluate import potential as evaluate
from atomsml.cli.generate import command as generate
from atomsml.cli.lammps import app as lammps
from atomsml.cli.md import command as md
from atomsml.cli.models import fetch, models
from atomsml.cli.properties import bind, conformers, elastic, eos, melting, phonons, qha, scan, vibrations
from atomsml.cli.properties.paths import neb, ts
from atomsml.cli.properties.references import formation, vacancy
from atomsml.cli.properties.surfaces import adsorb, surface
from atomsml.cli.relax import command as relax
from atomsml.cli.simulate import merge
from atomsml.cli.train import command as train
from atomsml.errors import explained, one_line
from atomsml.signals import exit_status, raising_stops


class Commands(TyperGroup):
    """Commands of which some have two words, as `evaluate molecules` beside `evaluate MODEL DATA...`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = " ".join(args[:2])
        return (name, self.commands[name], args[2:]) if name in self.commands else super().resolve_command(ctx, args)

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with _ended_in_one_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _ended_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _ended_in_one_line() -> Iterator[None]:
    """After a request to stop of which the command had nothing to say: one line, and the status of the signal."""
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.echo("interrupted: nothing more is written", err=True)
        raise SystemExit(exit_status(stop)) from None


# plain help: rich would double the time that --help takes
app = typer.Typer(
    name="atomsml",
    cls=Commands,
    help="Interatomic potentials for molecules and materials: energies, relaxation, molecular dynamics, training.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("energy")(energy.energy)
app.command("relax")(relax.relax)
app.command("md")(md.md)
app.command("merge")(merge.merge)
app.add_typer(lammps, name="lammps")
app.command("analyze")(analyze.analyze)
app.command("bind")(bind.bind)
app.command("eos")(eos.eos)
app.command("conformers")(conformers.conformers)
app.command("scan")(scan.scan)
app.command("elastic")(elastic.elastic)
app.command("surface")(surface.surface)
app.command("adsorb")(adsorb.adsorb)
app.command("vacancy")(vacancy.vacancy)
app.command("formation")(formation.formation)
app.command("melting")(melting.melting)
app.command("neb")(neb.neb)
app.command("ts")(ts.ts)
app.command("vibrations")(vibrations.vibrations)
app.command("phonons")(phonons.phonons)
app.command("qha")(qha.qha)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("evaluate backbones")(evaluate_backbones.evaluate_backbones)
app.command("evaluate molecules")(evaluate_molecules.evaluate_molecules)
app.command("evaluate likelihood")(evaluate_likelihood.evaluate_likelihood)
app.add_typer(generate.app, name="generate")
app.command("uncertainty")(uncertainty.uncertainty)
app.command("convert")(convert.convert)
app.command("models")(models.models)
app.command("fetch")(fetch.fetch)
app.command("info")(info.info)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atomsml {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run a command line, by default the process's own; always ends in SystemExit.

    What a user or a damaged file can cause (atomsml/errors.py) leaves as one line on stderr and exit status 1; usage
    errors have status 2. Anything else is a defect and keeps its traceback.
    """
    # threads that wait must sleep: on a busy machine those that spin slow each other down many times over; read by
    # OpenMP when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # once for each place and text
        warnings.showwarning = _show_warning
        _run(arguments)


@cache
def built_commands() -> Any:
    """All commands with their options: they take a tenth of a second, and stay the same for all runs of a process."""
    return typer.main.get_command(app)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """One line, without the place in the code."""
    typer.echo(f"warning: {one_line(str(message))}", err=True)


def _run(arguments: list[str] | None) -> None:
    try:
        with _ended_in_one_line(), raising_stops():  # in and out of what typer does before and after a command
            built_commands()(arguments)
    except Exception as error:
        words = explained(error, arguments)
        if words is None:
            raise
        sys.exit(f"error: {words}")
