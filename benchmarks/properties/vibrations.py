"""Frequencies of organic-xtb beside GFN2-xTB's, from which it learnt, and what they cost beside ASE's way.

    python -m benchmarks.properties.vibrations [--docs]

Errors are of all modes of each molecule at its own minimum, in order. Times are of one thread, for the Hessians of
all molecules: ours in few batches, ASE's one displaced copy after the other, by the same calculator with the same step.
A minute of one core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import ase
import numpy as np
import torch
from ase.vibrations import Vibrations as VibrationsOfAse
from tblite.ase import TBLite

from atomsml import AtomsMLCalculator
from atomsml.io import atoms_from_smiles
from atomsml.properties.engine import Engine
from atomsml.properties.hessian import STEP, derivatives
from atomsml.properties.task import Start, minima
from atomsml.properties.vibrations import Vibrations, vibrations
from benchmarks.shared.reporting import DOCS, replace_section, table

MOLECULES = {
    "water": "O",
    "methanol": "CO",
    "ethanol": "CCO",
    "acetic acid": "CC(=O)O",
    "benzene": "c1ccccc1",
    "acetamide": "CC(N)=O",
    "furan": "c1ccoc1",
    "acetonitrile": "CC#N",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    calculator = AtomsMLCalculator("organic-xtb")
    molecules = [atoms_from_smiles(smiles) for smiles in MOLECULES.values()]
    ours = found_of(molecules, Engine.of(calculator))
    theirs = found_of(molecules, Engine.of_ase(TBLite(method="GFN2-xTB", verbosity=0, accuracy=0.01)))
    rows = []
    for name, mine, other in zip(MOLECULES, ours, theirs, strict=True):
        errors = mine.frequencies - other.frequencies
        zero_point = 1000 * (mine.zero_point_energy - other.zero_point_energy)
        rows.append([name, str(len(errors)), f"{np.abs(errors).mean():.0f}", f"{np.abs(errors).max():.0f}"])
        rows[-1].append(f"{zero_point:+.0f}")
    text = table(["molecule", "modes", "mean abs. error cm^-1", "largest", "zero-point energy meV"], rows)
    text += f"\n{cost(molecules, calculator)}\n"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "properties" / "vibrations.md", "vibrations", text)


def found_of(molecules: list[ase.Atoms], engine: Engine) -> list[Vibrations]:
    found = dict(vibrations(molecules, engine, Start(fmax=0.001, steps=2000)))
    for i, each in found.items():
        if not isinstance(each, Vibrations):
            raise SystemExit(f"{list(MOLECULES)[i]}: {each.reason}")
    return [each for _, each in sorted(found.items()) if isinstance(each, Vibrations)]


def cost(molecules: list[ase.Atoms], calculator: AtomsMLCalculator) -> str:
    engine = Engine.of(calculator)
    relaxed = [atoms for _, atoms in minima(molecules, engine, Start()) if isinstance(atoms, ase.Atoms)]
    list(derivatives(relaxed, engine))  # tables of elements and machine code are made
    start = time.process_time()
    list(derivatives(relaxed, engine))
    ours = time.process_time() - start
    start = time.process_time()
    for atoms in relaxed:
        atoms.calc = calculator
        with tempfile.TemporaryDirectory() as folder:
            VibrationsOfAse(atoms, name=str(Path(folder) / "vib"), delta=STEP).run()
    theirs = time.process_time() - start
    return (
        f"The Hessians of all {len(relaxed)} molecules take {ours:.2f} s; ASE's way takes {theirs:.2f} s, "
        f"{theirs / ours:.1f} times as long."
    )


if __name__ == "__main__":
    main()
