"""`atomsml md`: molecular dynamics at constant energy or temperature, with trajectory, log and plot."""

from __future__ import annotations

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
    SeedOption,
    StrictOption,
    key_of,
)
from atomsml.simulate.integrators import INTEGRATORS
from atomsml.simulate.thermostats import THERMOSTATS

if TYPE_CHECKING:
    import numpy as np

    from atomsml.io import StructureRecord
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

    from atomsml.cli.job import prepare, warn_of_direct_forces
    from atomsml.cli.output import check_trajectory, print_json, write_summary
    from atomsml.io import Refused
    from atomsml.simulate.md import MDSettings

    settings = MDSettings(ensemble, temperature, timestep, steps, thermostat_time, thermostat)
    check_trajectory(output)
    job = prepare(inputs, format, model, device, precision, exact, strict)
    warn_of_direct_forces(job, "nve does not conserve the total energy, and nvt samples no Boltzmann distribution")
    outputs = _numbered(output, len(job.inputs))
    records = []
    for number, (structure, path) in enumerate(zip(job.inputs, outputs, strict=True)):
        if isinstance(structure, Refused):
            continue
        structure.atoms.calc = job.calculator
        # a seed of its own, so that a structure moves in the same way whatever else is computed
        rng = np.random.default_rng([seed, number])
        try:
            records.append(_run(structure, settings, rng, interval, path))
        except ValueError as error:  # a single atom, or atoms that overlap
            job.refuse(structure, str(error))
    job.require_some()
    failed = [record for record in records if not record["finished"]]
    written = [r[key] for r in records for key in ("trajectory", "log", "plot") if r[key] is not None]
    write_summary(output, context, job.facts(), written, [*failed, *job.refusals()])
    if as_json:
        print_json(job.in_order(records))
    else:
        _print(records)
    for record in failed:
        typer.echo(f"error: {record['file']}, frame {record['index']}: {record['reason']}", err=True)
    job.end(failed=bool(failed))


def _numbered(path: Path, count: int) -> list[Path]:
    """`md.extxyz` for one structure; `md-0.extxyz`, `md-1.extxyz`, ... for several."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(count)]


def _run(
    structure: StructureRecord, settings: MDSettings, rng: np.random.Generator, interval: int, path: Path
) -> dict[str, Any]:
    """One trajectory with its log and plot; an exploded one is kept up to there. Returns the JSON object."""
    from atomsml.cli.job import identity, label
    from atomsml.cli.output import follow, growing_file, trajectory_writer
    from atomsml.simulate.md import UnstableDynamics, iterate_md

    files = {"trajectory": path, "log": path.with_suffix(".csv"), "plot": path.with_suffix(".png")}
    written: list[MDState] = []
    reason = "finished"
    with trajectory_writer(path) as write_frame, growing_file(files["log"]) as log:
        states = iterate_md(structure.atoms, settings, rng)
        try:
            for state in follow(states, settings.steps, label(structure), _describe):
                if state.step % interval == 0:
                    write_frame(structure.atoms)
                    _log(log, state)
                    written.append(state)
        except UnstableDynamics as error:
            reason = str(error)
    if written:
        _plot(files["plot"], written, settings, structure.atoms.get_chemical_formula())
    return {
        **identity(structure),
        "finished": reason == "finished",
        "reason": reason,
        "steps": written[-1].step if written else 0,
        **_statistics(written, len(structure.atoms), settings),
        **{key: str(file) if written else None for key, file in files.items()},
    }


def _describe(state: MDState) -> str:
    return f"{state.time:.0f} fs  {state.total_energy:.4f} eV  {state.temperature:.0f} K"


def _log(path: Path, state: MDState) -> None:
    """Append a line to a CSV file, after its header if it is the first."""
    energies = (state.potential_energy, state.kinetic_energy, state.total_energy)
    line = ",".join([str(state.step), f"{state.time:.3f}", *(f"{e:.8f}" for e in energies), f"{state.temperature:.3f}"])
    with path.open("a", encoding="utf-8") as file:
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


def _plot(path: Path, states: list[MDState], settings: MDSettings, formula: str) -> None:
    """Energy and temperature against time."""
    from matplotlib.figure import Figure

    from atomsml.io import write_atomically

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
    write_atomically(path, lambda beside: figure.savefig(beside, dpi=150))


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
