"""`atomsml lammps run`: an input file of LAMMPS with the forces of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atomsml.cli.options import DeviceOption, ExactOption, PrecisionOption

RanksOption = Annotated[int, typer.Option("--ranks", min=1, help="How many MPI processes.")]


def run(
    script: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Input file of LAMMPS in which `pair_style atomsml` stands.")
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Name of a model, a file, or the folder of a committee."),
    ],
    ranks: RanksOption = 1,
    elements: Annotated[
        str | None,
        typer.Option(metavar="H,O", help="Of the atom types in their order, where pair_coeff does not name them."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "mixed",
    exact: ExactOption = False,
) -> None:
    """Run an input file of LAMMPS with the forces of a model.

    In the input file, write `pair_style atomsml` and `pair_coeff * * H O`, with an element for each atom type. Files
    are read and written where the command runs.
    """
    from atomsml.interfaces.lammps.launch import launch, require_lammps
    from atomsml.interfaces.models import open_model

    require_lammps()
    from atomsml.interfaces.lammps.script import agreed, read_script

    given = tuple((elements or "").replace(",", " ").split())
    for part in read_script(script):
        if part.elements is not None:
            agreed(part.elements, given)
    source, _ = open_model(model, None)  # each process opens it; what is wrong with it is said once
    named = str(source) if isinstance(source, str) else model
    arguments = [str(script), "--model", named, "--elements", ",".join(given)]
    arguments += ["--device", device, "--precision", precision, *(["--exact"] if exact else [])]
    launch(ranks, arguments)
