"""What md says of each structure that ran: as JSON, and as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomsml.cli.md.outputs import Output
    from atomsml.cli.md.series import Series
    from atomsml.cli.md.settings import Settings
    from atomsml.io import StructureRecord


def records_of(
    structures: Sequence[StructureRecord],
    series: Sequence[Series],
    output: Output,
    settings: Settings,
    interrupted: bool,
) -> list[dict[str, Any]]:
    """A JSON object for each structure that has a frame; pressures in GPa, volumes in A^3."""
    from atomsml.cli.job import identity

    endings = output.endings()
    last = settings.steps - settings.steps % settings.interval
    records = []
    for system, (structure, run) in enumerate(zip(structures, series, strict=True)):
        if not len(run):
            continue
        files, steps = output.files_of(system), int(run.step[-1])
        reason = endings.get(system, "interrupted" if interrupted and steps < last else "finished")
        means = {"temperature": "temperature_K", "pressure": "pressure_GPa", "volume": "volume_A^3"}
        records.append(
            {
                **identity(structure),
                **({"temperature": settings.replicas[system]} if settings.replicas else {}),
                "finished": reason == "finished",
                "reason": reason,
                "steps": steps,
                **{f"mean_{name}": run.mean(column) for name, column in means.items()},
                "drift_meV_per_atom": run.drift(len(structure.atoms)) if settings.conserves else None,
                "trajectory": str(files.trajectory),
                "log": str(files.log),
                "plot": str(files.plot),
            }
        )
    return records


def print_records(records: Sequence[dict[str, Any]]) -> None:
    from atomsml.cli.output import print_table

    print_table(*table_of(records))


def table_of(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows to be read."""
    from atomsml.cli.output import number

    crystals = any(r["mean_volume"] is not None for r in records)
    rungs = any("temperature" in r for r in records)
    header = ["file", "index", "formula", *(["temperature K"] if rungs else []), "finished", "steps"]
    header += ["mean temperature K"]
    header += ["mean pressure GPa", "mean volume A^3"] if crystals else []
    header += ["drift meV/atom", "trajectory"]
    rows = []
    for r in records:
        row = [*(str(r[key]) for key in ("file", "index", "formula"))]
        row += [f"{r['temperature']:g}"] if rungs else []
        row += ["yes" if r["finished"] else "no"]
        row += [str(r["steps"]), number(r["mean_temperature"], 1)]
        row += [number(r["mean_pressure"], 3), number(r["mean_volume"], 3)] if crystals else []
        row += [number(r["drift_meV_per_atom"], 4), r["trajectory"]]
        rows.append(row)
    return header, rows
