"""An input file of LAMMPS run with a model, in processes that exist."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from atomsml.interfaces.lammps.attach import attach
from atomsml.interfaces.lammps.callback import Callback
from atomsml.interfaces.lammps.script import agreed, read_script


def run_script(
    lammps: Any,
    path: Path,
    model: Any,
    elements: tuple[str, ...] = (),
    *,
    device: str = "auto",
    precision: str = "mixed",
    exact: bool = False,
) -> list[Callback]:
    """Run an input file with a model in a LAMMPS; every process calls it.

    Args:
        lammps: a `lammps.lammps`.
        elements: of the atom types, where pair_coeff names none.

    Raises:
        ValueError: see `read_script` and `attach`; elements that are named twice, differently, or nowhere.
    """
    found = []
    for part in read_script(path):
        with tempfile.TemporaryDirectory() as folder:  # commands from a file may jump, those from a string may not
            file = Path(folder) / path.name
            file.write_text(part.text)
            lammps.file(str(file))
        if part.elements is not None:
            named = agreed(part.elements, elements)
            found.append(attach(lammps, model, named, device=device, precision=precision, exact=exact, skin=part.skin))
    return found
