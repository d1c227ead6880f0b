"""`atomsml relax`: relax structures, and with --cell their cells, to the nearest minimum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import (
    ConfigOption,
    DeviceOption,
    ExactOption,
    FormatOption,
    Inputs,
    JsonOption,
    ModelOption,
    PrecisionOption,
    StrictOption,
    key_of,
)
from atomsml.simulate.optimizers.ase_optimizers import ASE_OPTIMIZERS as OPTIMIZERS

if TYPE_CHECKING:
    import ase

    from atomsml.cli.job import Job
    from atomsml.io import OutputSet, StructureRecord
    from atomsml.simulate.relax import RelaxSettings, RelaxState


def relax(
    context: typer.Context,
    inputs: Inputs,
    model: ModelOption = None,
    cell: Annotated[bool, typer.Option(help="Relax the cell as well (crystals).")] = False,
    fmax: Annotated[float, typer.Option(help="Converged when no force is larger, eV/A.")] = 0.05,
    steps: Annotated[int, typer.Option(help="Give up after this many steps.")] = 300,
    optimizer: Annotated[str, key_of(OPTIMIZERS, " If an energy rose, try bfgs.")] = "lbfgs",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Relaxed structures; the suffix chooses the format.")
    ] = Path("relaxed.extxyz"),
    trajectory: Annotated[Path | None, typer.Option(help="Write every step as well, .extxyz or .traj.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "mixed",
    exact: ExactOption = False,
    format: FormatOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Relax structures to the nearest minimum.

    The exit status is 1 if any did not converge. A molecule that reacts is said to have changed its bonding. Ctrl-C
    keeps the structures that are done and exits with status 130.
    """
    from atomsml.cli.files import end_interrupted, open_outputs
    from atomsml.cli.job import importing, prepare, warn_of_potential
    from atomsml.cli.output import check_output, check_trajectory, print_json, write_structures, write_summary

    with importing():
        from atomsml.simulate.relax import RelaxSettings

    settings = RelaxSettings(fmax, steps, cell, optimizer)
    check_output(output, images=1)
    if trajectory is not None:
        check_trajectory(trajectory)
    job = prepare(inputs, format, model, device, precision, exact, strict, settings.check)
    check_output(output, len(job.structures))
    warn_of_potential(
        job,
        with_direct_forces="where they vanish the energy need not be at a minimum, and --cell follows the energy",
        with_jumps="forces know nothing of the jumps, and the energy need not be at a minimum",
    )
    with open_outputs(context, output, [output, trajectory]) as files:
        records, images, stop = _relax_all(job, settings, files, output, trajectory)
        if stop is not None and not images:
            raise stop
        job.require_some()
        files.interrupted = stop is not None
        failed = [record for record in records if not record["converged"]]
        write_structures(files, output, images)
        facts = replace(job.facts(), results=_reacted(records))
        outputs = [output, *([trajectory] if trajectory else [])]
        write_summary(files, output, context, facts, outputs, [*failed, *job.refusals()])
    if as_json:
        print_json(job.in_order(records))
    else:
        _print(records)
    if stop is not None:
        end_interrupted(files, stop, f"{len(images)} of {len(job.inputs)} structures are in {output}")
    if failed:
        typer.echo(f"{len(failed)} of {len(records)} structures did not converge", err=True)
    job.end(failed=bool(failed))


def _relax_all(
    job: Job, settings: RelaxSettings, files: OutputSet, output: Path, trajectory: Path | None
) -> tuple[list[dict[str, Any]], list[ase.Atoms], KeyboardInterrupt | None]:
    """Relax every structure, and write those that are done now and then.

    Returns the JSON objects, the relaxed structures with their results, and the request to stop if there was one.
    """
    from atomsml.cli.files import now_and_then
    from atomsml.cli.job import label
    from atomsml.cli.output import follow, snapshot, trajectory_writer, write_structures
    from atomsml.signals import held_stops
    from atomsml.simulate.relax import iterate_relax

    records: list[dict[str, Any]] = []
    images: list[ase.Atoms] = []
    keep = now_and_then(lambda: write_structures(files, output, images))
    stop: KeyboardInterrupt | None = None
    with trajectory_writer(files, trajectory) as write_frame:
        for structure in job.structures:
            structure.atoms.calc = job.calculator
            states, before = [], structure.atoms.copy()
            run = iterate_relax(structure.atoms, settings)
            try:
                for state in follow(run, settings.steps, label(structure), _describe):
                    states.append(state)
                    write_frame(structure.atoms)
                with held_stops():
                    records.append(_record(structure, before, states[0], states[-1]))
                    images.append(snapshot(structure.atoms))  # the calculator keeps the results of one structure only
                    keep()
            except ValueError as error:  # atoms that overlap, for example
                job.refuse(structure, str(error))
            except KeyboardInterrupt as error:
                stop = error
                break
    for structure in job.structures[len(records) :]:
        job.refuse(structure, "not done: interrupted")
    return records, images, stop


def _describe(state: RelaxState) -> str:
    return f"{state.energy:.4f} eV, max force {state.fmax:.4f} eV/A"


def _record(structure: StructureRecord, before: ase.Atoms, first: RelaxState, last: RelaxState) -> dict[str, Any]:
    from atomsml.cli.job import identity
    from atomsml.cli.output import finite
    from atomsml.simulate.bonding import bonding_changed

    words = {True: "changed", False: "kept", None: None}
    return {
        **identity(structure),
        "converged": last.converged,
        "reason": last.reason,
        "steps": last.step,
        "fmax": finite(last.fmax),
        "energy_before": finite(first.energy),
        "energy": finite(last.energy),
        "bonding": words[bonding_changed(before, structure.atoms)],
    }


def _reacted(records: list[dict[str, Any]]) -> dict[str, Any]:
    """For the summary: which structures are no longer what they were; says so on stderr."""
    changed = [{"file": r["file"], "index": r["index"]} for r in records if r["bonding"] == "changed"]
    if changed:
        first = "{file}, frame {index}".format(**changed[0])
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        typer.echo(f"note: {first}{others}: bonding changed; what was relaxed is no longer what was given", err=True)
    return {"bonding_changed": changed}


def _print(records: list[dict[str, Any]]) -> None:
    from atomsml.cli.output import number, print_table

    header = ["file", "index", "formula", "converged", "steps", "max force eV/A", "energy before eV", "energy eV"]
    print_table(
        [*header, "bonding"],
        [
            [
                r["file"],
                str(r["index"]),
                r["formula"],
                "yes" if r["converged"] else f"no: {r['reason']}",
                str(r["steps"]),
                number(r["fmax"], 4),
                number(r["energy_before"], 6),
                number(r["energy"], 6),
                r["bonding"] or "-",
            ]
            for r in records
        ],
    )
