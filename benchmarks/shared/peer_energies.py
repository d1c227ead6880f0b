"""Energy, forces and stress of every structure of a file by MACECalculator, one after the other, into another file.

    .venv-peers/bin/python -m benchmarks.shared.peer_energies MODEL INPUT OUTPUT

What a user of mace-torch writes who follows the documentation of ASE. Only an interpreter that has mace-torch can
import this.
"""

from __future__ import annotations

import sys

import ase.io
from ase.calculators.singlepoint import SinglePointCalculator
from mace.calculators import MACECalculator


def main() -> None:
    model, read, written = sys.argv[1:]
    calculator = MACECalculator(model_paths=model, device="cpu", default_dtype="float32")
    frames = ase.io.read(read, ":")
    for atoms in frames:
        atoms.calc = calculator
        found = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if atoms.pbc.all():
            found["stress"] = atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, **found)
    ase.io.write(written, frames)


if __name__ == "__main__":
    main()
