"""`atomsml md`: molecular dynamics at constant energy or temperature, with trajectory, log and plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.config import naming_config
from atomsml.cli.options import (
    ConfigOption,
    DeviceOption,
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
from atomsml.simulate.integrators import INTEGRATORS
from atomsml.simulate.thermostats import THERMOSTATS

if TYPE_CHECKING:
    import numpy as np

    from atomsml.io import OutputSet, StructureRecord
    from atomsml.simulate.md import MDSettings, MDState


def md(
    context: typer.Context,
    inputs: Inputs,
    model: ModelOption = None,
    ensemble: Annotated[str, key_of(INTEGRATORS)] = "nvt",
    temperature: Annotated[float, typer.Option(help="Of the start velocities and the thermostat, K.")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs.")] = 1.0,
    steps: Annotated[int, typer.Option(help="How many time steps.")] = 1000,
    thermostat: Annotated[str, key_of(THERMOSTATS)] = "langevin",
    thermostat_time: Annotated[float, typer.Option(help="In which momenta are forgotten, fs.")] = 100.0,
    seed: SeedOption = 0,
    interval: Annotated[int, typer.Option(min=1, help="Write a frame and a log line every so many steps.")] = 10,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Trajectory, .extxyz or .traj; .csv and .png stand beside it.")
    ] = Path("md.extxyz"),
    device: DeviceOption = "auto",
    precision: PrecisionOption = "mixed",
    exact: ExactOption = False,
    format: FormatOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run molecular dynamics.

    Velocities start from the Maxwell-Boltzmann distribution. The exit status is 1 if a run exploded.
    """
    import numpy as np

    from atomsml.cli.files import end_interrupted, open_outputs
    from atomsml.cli.job import importing, prepare, warn_of_potential
    from atomsml.cli.output import check_trajectory, numbered, print_json, write_summary
    from atomsml.io import Refused

    with importing():
        from atomsml.simulate.md import MDSettings

    with naming_config(config):
        settings = MDSettings(ensemble, temperature, timestep, steps, thermostat_time, thermostat)
    check_trajectory(output)
    job = prepare(inputs, format, model, device, precision, exact, strict)
    warn_of_potential(
        job,
        with_direct_forces="nve does not conserve the total energy, and nvt samples no Boltzmann distribution",
        with_jumps="where they do nve does not conserve the total energy",
    )
    sets = [_files(path) for path in numbered(output, len(job.inputs))]
    derived = [file for paths in sets for file in paths.values() if file != output]
    records: list[dict[str, Any]] = []
    stop: KeyboardInterrupt | None = None
    with open_outputs(context, output, [output] if len(sets) == 1 else [], derived) as files:
        for number, (structure, paths) in enumerate(zip(job.inputs, sets, strict=True)):
            if isinstance(structure, Refused):
                continue
            structure.atoms.calc = job.calculator
            # a seed of its own, so that a structure moves in the same way whatever else is computed
            rng = np.random.default_rng([seed, number])
            try:
                record, stop = _run(structure, settings, rng, interval, files, paths)
            except ValueError as error:  # a single atom, or atoms that overlap
                job.refuse(structure, str(error))
            else:
                records.append(record)
            if stop is not None:
                break
        for structure in job.structures[len(records) :]:
            job.refuse(structure, "not begun: interrupted")
        job.require_some()
        failed = [record for record in records if not record["finished"]]
        written = [r[key] for r in records for key in ("trajectory", "log", "plot") if r[key] is not None]
        if stop is not None and not written:
            raise stop
        files.interrupted = stop is not None
        write_summary(files, output, context, job.facts(), written, [*failed, *job.refusals()])
    if as_json:
        print_json(job.in_order(records))
    else:
        _print(records)
    if stop is not None:
        end_interrupted(files, stop, _kept(records[-1]))
    for record in failed:
        typer.echo(f"error: {record['file']}, frame {record['index']}: {record['reason']}", err=True)
    job.end(failed=bool(failed))


def _files(path: Path) -> dict[str, Path]:
    from atomsml.io.outputs import beside

    return {"trajectory": path, "log": beside(path, ".csv"), "plot": beside(path, ".png")}


def _run(
    structure: StructureRecord,
    settings: MDSettings,
    rng: np.random.Generator,
    interval: int,
    files: OutputSet,
    paths: dict[str, Path],
) -> tuple[dict[str, Any], KeyboardInterrupt | None]:
    """One trajectory with its log and plot; one that explodes or is interrupted is kept up to there.

    Returns the JSON object, and the request to stop if there was one.
    """
    from atomsml.cli.job import identity, label
    from atomsml.cli.output import follow, trajectory_writer
    from atomsml.signals import held_stops
    from atomsml.simulate.md import UnstableDynamics, iterate_md

    written: list[MDState] = []
    reason, stop = "finished", None
    with trajectory_writer(files, paths["trajectory"]) as write_frame:
        states = iterate_md(structure.atoms, settings, rng)
        try:
            for state in follow(states, settings.steps, label(structure), _describe):
                if state.step % interval == 0:
                    with held_stops():  # a frame and its line, or neither
                        write_frame(structure.atoms)
                        _log(files, paths["log"], state)
                        written.append(state)
        except UnstableDynamics as error:
            reason = str(error)
        except KeyboardInterrupt as error:
            reason, stop = "interrupted", error
    if written:
        _plot(files, paths["plot"], written, settings, structure.atoms.get_chemical_formula())
    record = {
        **identity(structure),
        "finished": reason == "finished",
        "reason": reason,
        "steps": written[-1].step if written else 0,
        **_statistics(written, len(structure.atoms), settings),
        **{key: str(file) if written else None for key, file in paths.items()},
    }
    return record, stop


def _kept(last: dict[str, Any]) -> str:
    """What there is of the last structure of an interrupted run."""
    if last["trajectory"] is None:
        return f"nothing is written of {last['file']}, frame {last['index']}"
    return f"the trajectory up to step {last['steps']} is in {last['trajectory']}"


def _describe(state: MDState) -> str:
    return f"{state.time:.0f} fs  {state.total_energy:.4f} eV  {state.temperature:.0f} K"


def _log(files: OutputSet, path: Path, state: MDState) -> None:
    """Append a line to a CSV file, after its header if it is the first."""
    from atomsml.io.outputs import naming_file

    energies = (state.potential_energy, state.kinetic_energy, state.total_energy)
    line = ",".join([str(state.step), f"{state.time:.3f}", *(f"{e:.8f}" for e in energies), f"{state.temperature:.3f}"])
    with naming_file(path), files.growing(path).open("a", encoding="utf-8") as file:
        if state.step == 0:
            file.write("step,time_fs,potential_eV,kinetic_eV,total_eV,temperature_K\n")
        file.write(line + "\n")


def _statistics(states: list[MDState], atoms: int, settings: MDSettings) -> dict[str, float | None]:
    """Mean temperature, and where the total energy is conserved its drift, by a straight line through it."""
    import numpy as np

    drift = None
    if not INTEGRATORS[settings.ensemble].holds_temperature and len(states) > 1:
        slope, _ = np.polyfit([s.time for s in states], [s.total_energy for s in states], 1)
        drift = float(slope * (states[-1].time - states[0].time) / atoms * 1000)
    return {
        "mean_temperature": float(np.mean([s.temperature for s in states])) if states else None,
        "drift_meV_per_atom": drift,
    }


def _plot(files: OutputSet, path: Path, states: list[MDState], settings: MDSettings, formula: str) -> None:
    """Energy and temperature against time."""
    from matplotlib.figure import Figure

    time = [s.time / 1000 for s in states]
    start = states[0].potential_energy
    figure = Figure(figsize=(7, 6), layout="constrained")
    top, bottom = figure.subplots(2, sharex=True)
    top.plot(time, [s.total_energy - start for s in states], label="total", color="black")
    top.plot(time, [s.potential_energy - start for s in states], label="potential", color="tab:blue")
    top.plot(time, [s.kinetic_energy for s in states], label="kinetic", color="tab:orange")
    top.set_ylabel("energy above start (eV)")
    top.set_title(f"{formula}, {settings.ensemble.upper()}, {settings.timestep:g} fs")
    top.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    bottom.plot(time, [s.temperature for s in states], color="tab:red")
    if INTEGRATORS[settings.ensemble].holds_temperature:
        bottom.axhline(settings.temperature, color="grey", linestyle="--", linewidth=1, label="thermostat")
        bottom.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    bottom.set_xlabel("time (ps)")
    bottom.set_ylabel("temperature (K)")
    files.write(path, lambda beside: figure.savefig(beside, dpi=150))


def _print(records: list[dict[str, Any]]) -> None:
    from atomsml.cli.output import number, print_table

    header = ["file", "index", "formula", "finished", "steps", "mean temperature K", "drift meV/atom", "trajectory"]
    rows = []
    for r in records:
        rows.append(
            [
                *(str(r[key]) for key in ("file", "index", "formula")),
                "yes" if r["finished"] else "no",
                str(r["steps"]),
                number(r["mean_temperature"], 1),
                number(r["drift_meV_per_atom"], 4),
                r["trajectory"] or "-",
            ]
        )
    print_table(header, rows)
