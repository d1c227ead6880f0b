"""`atomsml lammps check`: LAMMPS beside the calculator, on structures of one's own."""

from __future__ import annotations

import typer

from atomsml.cli.lammps.run import RanksOption
from atomsml.cli.options import DeviceOption, ExactOption, FormatOption, Inputs, ModelOption, PrecisionOption


def check(
    inputs: Inputs,
    model: ModelOption = None,
    ranks: RanksOption = 2,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float64",
    exact: ExactOption = False,
    format: FormatOption = None,
) -> None:
    """Compare energy, forces and stress by the LAMMPS that is installed with those of the calculator.

    Prints the largest differences and the versions, and ends with status 1 if the precision does not explain them.
    """
    from atomsml.cli.job import identity, prepare
    from atomsml.cli.output import print_table
    from atomsml.interfaces.lammps.launch import require_lammps

    require_lammps()
    from atomsml.interfaces.lammps.check import TOLERANCES, versions
    from atomsml.interfaces.lammps.check import check as compare

    job = prepare(inputs, format, model, device, precision, exact, strict=True)
    rows: list[list[str]] = []
    largest = 0.0
    for structure in job.structures:
        found = compare(structure.atoms, job.calculator, ranks)
        about = identity(structure)
        stress = "-" if found.stress is None else f"{found.stress:.1e}"
        rows.append([str(about[name]) for name in ("file", "index", "formula")])
        rows[-1] += [f"{found.energy:.1e}", f"{found.forces:.1e}", stress]
        largest = max(largest, found.largest)
    print_table(["file", "index", "formula", "energy eV/atom", "force eV/A", "stress eV/A^3"], rows)
    typer.echo(f"{ranks} process{'es' * (ranks != 1)}, {precision}; " + ", ".join(map(" ".join, versions().items())))
    if not largest < TOLERANCES[precision]:
        raise ValueError(
            f"LAMMPS and the calculator differ by {largest:.1e}, more than the {TOLERANCES[precision]:g} of {precision}"
        )
