"""`atomsml md`: molecular dynamics of one structure or many, with trajectory, log and plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.config import naming_config
from atomsml.cli.md.checks import check_output, ladder_of, warn_of_long_steps
from atomsml.cli.md.settings import (
    BAROSTATS,
    CELLS,
    DEFAULT_EXCHANGE,
    ENSEMBLES,
    THERMOSTATS,
    Settings,
    method_of,
)
from atomsml.cli.options import (
    ConfigOption,
    D3Option,
    ExactOption,
    FormatOption,
    Inputs,
    JsonOption,
    ModelOption,
    PrecisionOption,
    SeedOption,
    StrictOption,
    key_of,
)
from atomsml.cli.report import ReportOption, check_report
from atomsml.cli.simulate.devices import DevicesOption, devices_of
from atomsml.cli.simulate.held import FixOption, hold, make_rigid
from atomsml.cli.simulate.identity import ResumeOption
from atomsml.cli.simulate.shards import Shard, ShardOption

if TYPE_CHECKING:
    from atomsml.cli.job import Job
    from atomsml.cli.md.outputs import Output
    from atomsml.io import StructureRecord


def md(
    context: typer.Context,
    inputs: Inputs,
    model: ModelOption = None,
    d3: D3Option = None,
    ensemble: Annotated[str, key_of(ENSEMBLES)] = "nvt",
    temperature: Annotated[
        str,
        typer.Option(
            metavar="K",
            help="Of the start and the thermostat: a number, a ramp as 300:600, or points as 0=300,5000=600.",
        ),
    ] = "300",
    pressure: Annotated[
        str, typer.Option(metavar="GPA", help="Of the barostat, likewise. Compression is positive.")
    ] = "0",
    timestep: Annotated[float, typer.Option(help="fs. Hydrogen needs 0.5 to 1, heavy atoms allow 2.")] = 1.0,
    steps: Annotated[int, typer.Option(help="How many time steps.")] = 1000,
    thermostat: Annotated[str | None, key_of(THERMOSTATS, " [default: langevin]")] = None,
    barostat: Annotated[str | None, key_of(BAROSTATS, " [default: mtk]")] = None,
    thermostat_time: Annotated[float, typer.Option(help="In which momenta are forgotten, fs.")] = 100.0,
    barostat_time: Annotated[float, typer.Option(help="In which the cell answers to the pressure, fs.")] = 1000.0,
    cell: Annotated[str, key_of(CELLS)] = "isotropic",
    replicas: Annotated[
        str | None,
        typer.Option(
            metavar="K",
            help="Replica exchange: one structure at several temperatures, which swap: 300,350,410, or 300:600:8 for 8 "
            "from 300 to 600, each by the same factor above the one before.",
        ),
    ] = None,
    exchange: Annotated[
        int | None, typer.Option(min=1, help="Steps between attempts to swap replicas. [default: 100]")
    ] = None,
    fix: FixOption = None,
    rigid: Annotated[
        str | None,
        typer.Option(
            metavar="hydrogens", help="hydrogens: their bonds keep their lengths, which allows steps of 2 fs."
        ),
    ] = None,
    seed: SeedOption = 0,
    interval: Annotated[int, typer.Option(min=1, help="Write a frame and a log line every so many steps.")] = 10,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Trajectory: .h5, one file from which --resume goes on, or .extxyz or .traj, one for each structure; "
            ".csv and .png stand beside it.",
        ),
    ] = Path("md.extxyz"),
    report: ReportOption = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
    analyze: Annotated[
        bool, typer.Option(help="At the end, what `atomsml analyze` tells, in a folder .analysis beside a file .h5.")
    ] = False,
    device: DevicesOption = "auto",
    precision: PrecisionOption = "mixed",
    exact: ExactOption = False,
    format: FormatOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run molecular dynamics.

    Velocities start from the Maxwell-Boltzmann distribution. Many structures run together. The exit status is 1 if a
    run exploded; the others finish. After Ctrl-C what there is is kept, and --resume goes on with it from a file .h5.
    """
    from atomsml.cli.job import importing, prepare, warn_of_potential

    with importing():
        from atomsml.cli.md.replicas import replicate
        from atomsml.simulate.selection import Selection

    part = Shard.parse(shard)
    output, report = part.name(output), None if report is None else part.name(report)
    with naming_config(config):
        method = method_of(ensemble, thermostat, barostat)
        every, times = min(interval, max(steps, 1)), (thermostat_time, barostat_time)
        rungs = ladder_of(context, replicas, exchange, device, output)
        words = (temperature, pressure, *times, cell, part.seed(seed), rungs, exchange or DEFAULT_EXCHANGE)
        settings = Settings(ensemble, method, timestep, steps, every, *words, rigid)
    held = None if fix is None else Selection(fix)
    check_output(output, resume, analyze)
    check_report(report)
    devices = devices_of(device, precision)
    job = prepare(inputs, format, model, devices[0], precision, exact, strict, settings.check, d3=d3)
    hold(job, held, strict, settings.check)
    if settings.rigid:
        make_rigid(job, strict, settings.check)
    if settings.replicas:
        replicate(job, settings.replicas)
    identity = _identity(context, job, settings)
    job.inputs = part.of(job.inputs)
    job.require_some()
    warn_of_potential(
        job,
        with_direct_forces="nve does not conserve the total energy, and nvt samples no Boltzmann distribution",
        with_jumps="where they do nve does not conserve the total energy",
    )
    if not settings.rigid:
        warn_of_long_steps(job, timestep)
    _run(context, job, identity, part, settings, devices, output, report, resume, analyze, as_json)


def _run(
    context: typer.Context,
    job: Job,
    identity: dict[str, Any],
    part: Shard,
    settings: Settings,
    devices: Sequence[str],
    path: Path,
    report: Path | None,
    resume: bool,
    analyze: bool,
    as_json: bool,
) -> None:
    """Run, write, print, and end with the exit status."""
    from atomsml.cli.files import end_interrupted, open_outputs
    from atomsml.cli.md.batches import check_room, plan_batches
    from atomsml.cli.md.records import print_records, records_of
    from atomsml.cli.md.replicas import print_ladder
    from atomsml.cli.md.report import page_parts
    from atomsml.cli.md.run import run
    from atomsml.cli.output import print_json, write_summary
    from atomsml.cli.report import write_report

    structures = job.structures
    output = _output(job, identity, settings, path, resume)
    if (earlier := output.earlier_batches()) is not None:
        check_room(job, settings, devices, earlier)
    with open_outputs(context, path, [*output.named, report], output.derived) as files:
        with output.writing(files, structures, partial(plan_batches, job, settings, devices)) as batches:
            rate, stop = run(job, settings, output, batches, devices)
        formulas = [structure.atoms.get_chemical_formula() for structure in structures]
        series = output.finish(files, formulas, [len(structure.atoms) for structure in structures])
        for system, run_of_it in enumerate(series):
            if not len(run_of_it):
                _refuse_unbegun(job, structures[system], exploded=system in output.endings())
        records = records_of(structures, series, output, settings, stop is not None)
        failed = [record for record in records if not record["finished"]]
        written = [*(r[key] for r in records for key in ("trajectory", "log", "plot")), *map(str, output.of_ladder)]
        if stop is not None and not written:
            raise stop
        job.require_some()
        files.interrupted = stop is not None
        results = {**rate.facts(settings.timestep), **output.ladder, "run": identity, **part.facts(job.inputs)}
        facts = replace(job.facts(devices), results=results)
        written += [] if report is None else [str(report)]
        summary = write_summary(files, path, context, facts, [*dict.fromkeys(written)], [*failed, *job.refusals()])
        if report is not None:
            parts = page_parts(files, output, series, records, job.refusals())
            write_report(files, report, "Molecular dynamics", parts, summary)
    if as_json:
        print_json(job.in_order(records))
    else:
        print_records(records)
        print_ladder(output.ladder)
    if stop is not None:
        end_interrupted(files, stop, _kept(records, path))
    if analyze:
        _analyze(context, path, as_json)
    if rate.steps:
        typer.echo(rate.words(settings.timestep), err=True)
    elif resume:
        typer.echo(f"nothing was left to do: the run in {path} is complete", err=True)
    for record in failed:
        typer.echo(f"error: {record['file']}, frame {record['index']}: {record['reason']}", err=True)
    job.end(failed=bool(failed))


def _analyze(context: typer.Context, path: Path, quiet: bool) -> None:
    from atomsml.cli.analyze import print_all, say_refused, write_all
    from atomsml.io.outputs import beside
    from atomsml.simulate.analysis import ANALYSES, analyze_file

    told = analyze_file(path, list(ANALYSES))
    written = write_all(context, beside(path, ".analysis"), told)
    if not quiet:
        print_all(told, written)
    say_refused(told, "note")


def _refuse_unbegun(job: Job, structure: StructureRecord, exploded: bool) -> None:
    """Take a structure without a frame among those that cannot be treated."""
    job.refuse(structure, job.why_no_answer(structure) if exploded else "not begun: interrupted")


def _output(job: Job, identity: dict[str, Any], settings: Settings, path: Path, resume: bool) -> Output:
    from atomsml.cli.md.outputs import NATIVE, ASEOutput, NativeOutput
    from atomsml.io import StructureRecord

    if path.suffix != NATIVE:
        numbers = [i for i, each in enumerate(job.inputs) if isinstance(each, StructureRecord)]
        return ASEOutput(path, settings, numbers, len(job.inputs), job.calculator)
    return NativeOutput(path, settings, identity, job.model, resume)


def _identity(context: typer.Context, job: Job, settings: Settings) -> dict[str, Any]:
    """Of the run, of all shards together."""
    from atomsml.cli.simulate.identity import FREE, run_identity

    free = FREE | ({"steps"} if settings.is_constant else set())  # a longer run goes on with the same
    return run_identity(context, job.model, job.inputs, free)


def _kept(records: Sequence[dict[str, Any]], path: Path) -> str:
    """What there is of an interrupted run."""
    where = ", ".join(dict.fromkeys(record["trajectory"] for record in records))
    kept = f"the trajectory up to step {max(record['steps'] for record in records)} is in {where}"
    return f"{kept}; --resume goes on" if path.suffix == ".h5" else kept
