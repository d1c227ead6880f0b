"""What relax says of each structure: as JSON, as a table on the terminal, as a row of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import ase

    from atomsml.io import OutputSet, StructureRecord
    from atomsml.simulate.relax import RelaxState

CELL = ("a", "b", "c", "alpha", "beta", "gamma")
VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
# keys of the JSON objects -> columns of the CSV file, which has no others but cell and stress
COLUMNS = {
    "file": "file",
    "index": "index",
    "formula": "formula",
    "output": "output",
    "converged": "converged",
    "reason": "reason",
    "steps": "steps",
    "fmax": "max_force_eV/A",
    "max_stress": "max_stress_GPa",
    "energy_before": "energy_before_eV",
    "energy": "energy_eV",
    "energy_per_atom": "energy_per_atom_eV",
    "volume": "volume_A^3",
    "pressure": "pressure_GPa",
    "space_group_before": "space_group_before",
    "space_group": "space_group",
    "bonding": "bonding",
    "fixed_atoms": "fixed_atoms",
}


def record_of(
    structure: StructureRecord, relaxed: ase.Atoms, energy_before: float, last: RelaxState, place: Path
) -> dict[str, Any]:
    """The JSON object of a structure that is done; lengths in A, angles in degrees, stress in eV/A^3, pressure in GPa.

    What a structure has not, a cell or a bonding that can be judged, is None.
    """
    from atomsml.cli.job import identity
    from atomsml.cli.output import finite
    from atomsml.cli.relax.space_group import space_group
    from atomsml.simulate.bonding import bonding_changed

    words = {True: "changed", False: "kept", None: None}
    crystal, sound = bool(relaxed.pbc.all()), finite(last.energy) is not None
    stress = relaxed.calc.results.get("stress") if crystal and sound else None
    return {
        **identity(structure),
        "output": str(place),
        "converged": last.converged,
        "reason": last.reason,
        "steps": last.step,
        "fmax": finite(last.fmax),
        "max_stress": None if last.stress is None else finite(last.stress),
        "energy_before": finite(energy_before),
        "energy": finite(last.energy),
        "energy_per_atom": finite(last.energy / len(relaxed)),
        "cell": dict(zip(CELL, relaxed.cell.cellpar().tolist(), strict=True)) if crystal else None,
        "volume": float(relaxed.get_volume()) if crystal else None,
        "pressure": None if stress is None else _pressure(stress),
        "space_group_before": space_group(structure.atoms),
        "space_group": space_group(relaxed) if sound else None,
        "bonding": words[bonding_changed(structure.atoms, relaxed)],
        "fixed_atoms": _held(relaxed),
        "forces": relaxed.calc.results["forces"].tolist() if sound else None,
        "stress": None if stress is None else stress.tolist(),
    }


def _pressure(stress: Sequence[float]) -> float:
    """GPa, of a stress in ASE's order in eV/A^3: tension is positive there, and compression here."""
    from ase import units

    return -float(sum(stress[:3])) / 3 / units.GPa


def _held(atoms: ase.Atoms) -> int:
    """How many atoms cannot move at all."""
    from ase.constraints import FixAtoms

    return len({int(i) for each in atoms.constraints if isinstance(each, FixAtoms) for i in each.index})


def reacted(records: list[dict[str, Any]]) -> dict[str, Any]:
    """For the summary: which structures are no longer what they were; says so on stderr."""
    changed = [{"file": r["file"], "index": r["index"]} for r in records if r["bonding"] == "changed"]
    if changed:
        first = "{file}, frame {index}".format(**changed[0])
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        typer.echo(f"note: {first}{others}: bonding changed; what was relaxed is no longer what was given", err=True)
    return {"bonding_changed": changed}


def print_records(records: Sequence[dict[str, Any]]) -> None:
    from atomsml.cli.output import print_table

    print_table(*table_of(records))


def table_of(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows to be read; the last columns are those of crystals, of molecules, or both."""
    from atomsml.cli.output import number

    stresses = any(r["max_stress"] is not None for r in records)
    crystals = any(r["cell"] is not None for r in records)
    molecules = any(r["cell"] is None for r in records)
    header = ["file", "index", "formula", "converged", "steps", "max force eV/A"]
    header += ["max stress GPa"] if stresses else []
    header += ["energy before eV", "energy eV", "eV/atom"]
    header += [*CELL, "volume A^3", "pressure GPa", "space group before", "after"] if crystals else []
    header += ["bonding"] if molecules else []
    rows = []
    for r in records:
        row = [r["file"], str(r["index"]), r["formula"], "yes" if r["converged"] else f"no: {r['reason']}"]
        row += [str(r["steps"]), number(r["fmax"], 4)]
        row += [number(r["max_stress"], 4)] if stresses else []
        row += [number(r[key], 6) for key in ("energy_before", "energy", "energy_per_atom")]
        if crystals:
            cell = r["cell"] or dict.fromkeys(CELL)
            row += [number(cell[key], 4 if key in "abc" else 2) for key in CELL]
            row += [number(r["volume"], 3), number(r["pressure"], 3)]
            row += [r["space_group_before"] or "-", r["space_group"] or "-"]
        row += [r["bonding"] or "-"] if molecules else []
        rows.append(row)
    return header, rows


def write_table(files: OutputSet, path: Path, records: Sequence[dict[str, Any]]) -> None:
    """The CSV file: a row for each structure, of all numbers but the forces."""

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            stress = [f"stress_{each}_eV/A^3" for each in VOIGT]
            table.writerow([*COLUMNS.values(), *(f"{c}_A" if c in "abc" else f"{c}_deg" for c in CELL), *stress])
            for r in records:
                cell, tensor = r["cell"] or {}, r["stress"] or [None] * 6
                table.writerow([*(r[key] for key in COLUMNS), *(cell.get(key) for key in CELL), *tensor])

    files.write(path, write)
