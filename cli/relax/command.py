"""`atomsml relax`: relax structures, and with --cell their cells, to the nearest minimum."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import (
    ConfigOption,
    D3Option,
    ExactOption,
    FormatOption,
    Inputs,
    JsonOption,
    ModelOption,
    PrecisionOption,
    StrictOption,
    key_of,
    one_of,
)
from atomsml.cli.report import ReportOption, check_report
from atomsml.cli.simulate.devices import DevicesOption, devices_of
from atomsml.cli.simulate.held import FixOption, hold
from atomsml.cli.simulate.identity import ResumeOption
from atomsml.cli.simulate.shards import Shard, ShardOption
from atomsml.simulate.optimizers import OPTIMIZERS

SHAPES = ("free", "isotropic", "volume")

if TYPE_CHECKING:
    from atomsml.cli.job import Job
    from atomsml.cli.relax.outputs import Output
    from atomsml.simulate.relax import RelaxSettings


def relax(
    context: typer.Context,
    inputs: Inputs,
    model: ModelOption = None,
    d3: D3Option = None,
    cell: Annotated[bool, typer.Option(help="Relax the cell as well (crystals).")] = False,
    shape: Annotated[
        str, one_of(SHAPES, "What may change of it: all, the volume alone (isotropic), or all but the volume (volume).")
    ] = "free",
    fixed_axes: Annotated[str, typer.Option(metavar="AXES", help="Lattice vectors that stay, as c or ab.")] = "",
    pressure: Annotated[float, typer.Option(help="On a relaxed cell from outside, GPa.")] = 0.0,
    symmetry: Annotated[bool, typer.Option("--symmetry", help="Keep the space group (crystals).")] = False,
    fmax: Annotated[
        float, typer.Option(help="Converged when no force is larger, eV/A, nor stress: volume x stress / atoms, eV.")
    ] = 0.05,
    steps: Annotated[int, typer.Option(help="Give up after this many steps.")] = 300,
    optimizer: Annotated[str, key_of(OPTIMIZERS, " If an energy rose, try fire.")] = "lbfgs",
    fix: FixOption = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="Relaxed structures: a file, whose suffix chooses the format, or as out/ a folder, with a file "
            "for each. A table, .csv, stands beside them.",
        ),
    ] = "relaxed.extxyz",
    trajectory: Annotated[Path | None, typer.Option(help="Write every step as well, .extxyz or .traj.")] = None,
    report: ReportOption = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
    device: DevicesOption = "auto",
    precision: PrecisionOption = "mixed",
    exact: ExactOption = False,
    format: FormatOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Relax structures to the nearest minimum.

    The exit status is 1 if any did not converge. A molecule that reacts is said to have changed its bonding. Ctrl-C
    keeps the structures that are done and exits with status 130; --resume goes on with the others.
    """
    from atomsml.cli.job import importing, prepare, warn_of_potential
    from atomsml.cli.output import check_trajectory
    from atomsml.cli.relax.outputs import output_of
    from atomsml.cli.simulate.identity import run_identity

    with importing():
        from atomsml.cli.relax.run import check
        from atomsml.cli.relax.space_group import TOLERANCE
        from atomsml.simulate.relax import RelaxSettings
        from atomsml.simulate.selection import Selection

    kept = TOLERANCE if symmetry else None
    settings = RelaxSettings(fmax, steps, cell, optimizer, pressure, shape, fixed_axes, symmetry=kept)
    held = None if fix is None else Selection(fix)
    place = output_of(output, Shard.parse(shard))
    place.check(1, resume)
    report = None if report is None else place.shard.name(report)
    check_report(report)
    if trajectory is not None:
        check_trajectory(trajectory)
        if resume:
            raise ValueError("--trajectory cannot go on where a run ended; leave it or --resume out")
    devices = devices_of(device, precision)
    if trajectory is not None and len(devices) > 1:
        raise ValueError(f"--trajectory is written on one device, got --device {device}; name one")
    job = prepare(inputs, format, model, devices[0], precision, exact, strict, partial(check, settings), d3=d3)
    hold(job, held, strict, partial(check, settings))
    identity = run_identity(context, job.model, job.inputs)
    job.inputs = place.share(job.inputs)
    job.require_some()
    place.check(len(job.structures), resume)
    warn_of_potential(
        job,
        with_direct_forces="where they vanish the energy need not be at a minimum, and --cell follows the energy",
        with_jumps="forces know nothing of the jumps, and the energy need not be at a minimum",
    )
    _relax(context, job, identity, settings, devices, place, trajectory, report, resume, as_json)


def _relax(
    context: typer.Context,
    job: Job,
    identity: dict[str, Any],
    settings: RelaxSettings,
    devices: Sequence[str],
    place: Output,
    trajectory: Path | None,
    report: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Relax, write, print, and end with the exit status."""
    from atomsml.cli.files import end_interrupted, summary_path
    from atomsml.cli.output import print_json, write_summary
    from atomsml.cli.relax.journal import open_journal
    from atomsml.cli.relax.records import print_records, reacted, write_table
    from atomsml.cli.relax.report import page_parts
    from atomsml.cli.relax.run import relax_all
    from atomsml.cli.report import write_report
    from atomsml.cli.simulate.journal import remove

    if resume and not place.journal.exists():
        _end_if_finished(summary_path(place.base), identity)
    with (
        place.open(context, trajectory, report) as files,
        open_journal(place.journal, identity, job.inputs, resume) as journal,
    ):
        stop = relax_all(job, settings, devices, files, place, journal, trajectory)
        records = [journal.records[number] for number in sorted(journal.records)]
        if stop is not None and not records:
            raise stop
        job.require_some()
        files.interrupted = stop is not None
        failed = [record for record in records if not record["converged"]]
        place.finish(files, journal.images)
        write_table(files, place.table, records)
        facts = replace(
            job.facts(devices), results={**reacted(records), "run": identity, **place.shard.facts(job.inputs)}
        )
        written = [*dict.fromkeys(record["output"] for record in records), place.table]
        written += [path for path in (trajectory, report) if path is not None]
        summary = write_summary(files, place.base, context, facts, written, [*failed, *job.refusals()])
        if report is not None:
            write_report(files, report, "Relaxed structures", page_parts(job, journal), summary)
    if stop is None:
        remove(place.journal)
    if as_json:
        print_json(job.in_order(records))
    else:
        print_records(records)
    if stop is not None:
        kept = f"{len(records)} of {len(job.inputs)} structures are in {place}"
        end_interrupted(files, stop, f"{kept}; --resume goes on by {place.journal}")
    if failed:
        typer.echo(f"{len(failed)} of {len(records)} structures did not converge", err=True)
    job.end(failed=bool(failed))


def _end_if_finished(path: Path, identity: dict[str, Any]) -> None:
    """Where --resume finds the summary of a run that was complete: say so, and end as it did.

    Raises:
        ValueError: that was another run.
    """
    from atomsml.cli.simulate.identity import check_same_run

    if not path.exists():
        typer.echo("note: there is nothing to resume; begins anew", err=True)
        return
    summary = json.loads(path.read_text(encoding="utf-8"))
    if summary["interrupted"]:
        raise ValueError(f"{path} is of an interrupted run whose journal is not there; begin anew without --resume")
    check_same_run(summary.get("run", {}), identity, path)
    typer.echo(f"nothing is left to do: the run is complete, {path} describes it", err=True)
    raise typer.Exit(1 if summary["failed"] else 0)
