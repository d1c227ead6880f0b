"""`atomsml energy`: energy, forces and stress of structures as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import (
    ConfigOption,
    D3Option,
    DeviceOption,
    ExactOption,
    FormatOption,
    Inputs,
    JsonOption,
    ModelOption,
    PrecisionOption,
    StrictOption,
)
from atomsml.cli.simulate.shards import Shard, ShardOption

if TYPE_CHECKING:
    from atomsml.io import StructureRecord


def energy(
    context: typer.Context,
    inputs: Inputs,
    model: ModelOption = None,
    d3: D3Option = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "mixed",
    exact: ExactOption = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the structures with their results, e.g. out.extxyz.")
    ] = None,
    shard: ShardOption = None,
    format: FormatOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute energy, forces and stress of structures."""
    from atomsml.cli.files import open_outputs
    from atomsml.cli.job import prepare
    from atomsml.cli.output import check_output, print_json, snapshot, write_structures, write_summary
    from atomsml.cli.simulate.identity import run_identity

    part = Shard.parse(shard)
    if output is not None:
        output = part.name(output)
        check_output(output, images=1)
    job = prepare(inputs, format, model, device, precision, exact, strict, d3=d3)
    identity = run_identity(context, job.model, job.inputs)
    job.inputs = part.of(job.inputs)
    job.require_some()
    if output is not None:
        check_output(output, len(job.structures))
    records, images = [], []
    for structure in job.structures:
        structure.atoms.calc = job.calculator
        try:
            records.append(_record(structure))
        except ValueError as error:  # atoms that overlap, for example
            job.refuse(structure, str(error))
        else:
            images.append(snapshot(structure.atoms))
    job.require_some()
    if output is not None:
        with open_outputs(context, output, [output]) as files:
            write_structures(files, output, images)
            facts = replace(job.facts(), results={"run": identity, **part.facts(job.inputs)})
            write_summary(files, output, context, facts, [output], failed=job.refusals())
    if as_json:
        print_json(job.in_order(records))
    else:
        _print(records)
    job.end()


def _record(structure: StructureRecord) -> dict[str, Any]:
    """One object of the JSON list: eV, eV/A, and for periodic input eV/A^3 in ASE's Voigt order xx yy zz yz xz xy.

    Standard deviations are there where the model knows them; so are charges (e), and of molecules dipole (e A) and
    quadrupole (e A^2).
    """
    import numpy as np

    from atomsml.cli.job import identity

    atoms = structure.atoms
    energy, forces = float(atoms.get_potential_energy()), atoms.get_forces(apply_constraint=False)
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise ValueError("the model gives no finite energy and forces; do atoms overlap?")
    record = {
        **identity(structure),
        "energy": energy,
        "forces": forces.tolist(),
    }
    if "stress" in atoms.calc.results:
        record["stress"] = atoms.calc.results["stress"].tolist()
    for name in ("charges", "dipole", "quadrupole"):
        if name in atoms.calc.results:
            record[name] = atoms.calc.results[name].tolist()
    if "energy_std" in atoms.calc.results:
        record["energy_std"] = atoms.calc.results["energy_std"]
    if "forces_std" in atoms.calc.results:
        record["forces_std"] = atoms.calc.results["forces_std"].tolist()
    return record


def _print(records: list[dict[str, Any]]) -> None:
    import numpy as np

    from atomsml.cli.output import print_table

    known = {key for record in records for key in record}  # stress and standard deviations may be missing
    header = ["file", "index", "formula", "energy eV", "eV/atom", "max force eV/A"]
    header += ["energy std eV"] if "energy_std" in known else []
    header += ["max force std eV/A"] if "forces_std" in known else []
    header += ["dipole x y z e A"] if "dipole" in known else []
    header += ["stress xx yy zz yz xz xy eV/A^3"] if "stress" in known else []
    rows = []
    for record in records:
        row = [record["file"], str(record["index"]), record["formula"]]
        row += [f"{record['energy']:.6f}", f"{record['energy'] / len(record['forces']):.6f}"]
        row += [f"{np.linalg.norm(record['forces'], axis=1).max():.4f}"]
        if "energy_std" in known:
            row += [f"{record['energy_std']:.6f}"]
        if "forces_std" in known:
            row += [f"{np.linalg.norm(record['forces_std'], axis=1).max():.4f}"]
        if "dipole" in known:
            row += [" ".join(f"{x:.4f}" for x in record["dipole"]) if "dipole" in record else "-"]
        if "stress" in known:
            row += [" ".join(f"{x:.5f}" for x in record["stress"]) if "stress" in record else "-"]
        rows.append(row)
    print_table(header, rows)
