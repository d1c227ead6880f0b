"""Streams of different structures by AtomsMLCalculator: one call each, beside a repeated call on each with moved atoms.

    python -m benchmarks.speed.streams --data FOLDER [--molecules 500] [--crystals 200]

FOLDER has molecules_static/smiles/qm9_smiles.csv.gz and crystals/mp_20_biternary.csv.gz. A call is the energy, then the
forces, then of crystals the stress. CPU time of one thread, in milliseconds; kernels are compiled beforehand, and the
calculator is new: what each structure's elements need is part of its first call.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from statistics import median

import ase.io
import numpy as np
import pandas as pd
import torch
from ase import Atoms

from atomsml import AtomicGraph, AtomsMLCalculator
from atomsml.potential import Potential
from atomsml.potentials.mace import MACE, MACEConfig
from benchmarks.shared.reporting import table, three_digits

MOVED = 0.01  # A, standard deviation of each coordinate
REPEATS = 4  # calls on the same structure; the first has a list of its own to make, and does not count
ELEMENTS = (*range(1, 84), *range(89, 95))
UNIVERSAL = Path(__file__).parents[1] / "recipes" / "universal-small.safetensors"


def molecules(data: Path, count: int) -> list[Atoms]:
    """From SMILES of QM9, the first neutral ones that can be embedded."""
    found: list[Atoms] = []
    for smiles in pd.read_csv(data / "molecules_static/smiles/qm9_smiles.csv.gz")["smiles"]:
        if len(found) == count:
            break
        if "+]" in smiles or "-]" in smiles:
            continue
        with suppress(ValueError):
            found.append(AtomicGraph.from_smiles(smiles).to_ase())
    return found


def crystals(data: Path, count: int) -> list[Atoms]:
    """The first ones of the 89 elements."""
    cif = pd.read_csv(data / "crystals/mp_20_biternary.csv.gz", nrows=2 * count)["cif"]
    found = (ase.io.read(io.StringIO(text), format="cif") for text in cif)
    return list(islice((atoms for atoms in found if set(atoms.numbers) <= set(ELEMENTS)), count))


def wide_model() -> Potential:
    """128x0e for 89 elements, with random weights."""
    torch.manual_seed(0)
    size = {**MACE.sizes["large"], "hidden_lmax": 0}
    return MACE(MACEConfig(elements=ELEMENTS, avg_num_neighbors=40.0, **size))


def call(calculator: AtomsMLCalculator, atoms: Atoms) -> float:
    """Milliseconds of CPU time."""
    start = time.process_time()
    atoms.calc = calculator
    atoms.get_potential_energy()
    atoms.get_forces()
    if atoms.pbc.any():
        atoms.get_stress()
    return 1000 * (time.process_time() - start)


def measure(make: Callable[[], AtomsMLCalculator], stream: Sequence[Atoms]) -> list[str]:
    """Mean of one call each, of repeated calls, their ratio; and the atoms of a structure."""
    warm = make()
    for atoms in stream[:3]:
        call(warm, atoms.copy())
    calculator, rng = make(), np.random.default_rng(0)
    once = [call(calculator, atoms.copy()) for atoms in stream]
    repeated = []
    for atoms in stream:
        again, taken = atoms.copy(), []
        for _ in range(REPEATS):
            again.positions += rng.normal(0, MOVED, again.positions.shape)
            taken.append(call(calculator, again))
        repeated.append(median(taken[1:]))
    ratio = np.mean(once) / np.mean(repeated)
    atoms_each = np.mean([len(atoms) for atoms in stream])
    return [f"{atoms_each:.1f}", three_digits(np.mean(once)), three_digits(np.mean(repeated)), f"{ratio:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--molecules", type=int, default=500)
    parser.add_argument("--crystals", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wide = wide_model()
    some_molecules, some_crystals = (
        f(arguments.data, n) for f, n in ((molecules, arguments.molecules), (crystals, arguments.crystals))
    )
    streams: dict[str, tuple[Callable[[], AtomsMLCalculator], list[Atoms]]] = {
        "molecules, organic-xtb": (lambda: AtomsMLCalculator("organic-xtb"), some_molecules),
        "crystals, universal-small": (lambda: AtomsMLCalculator(UNIVERSAL), some_crystals),
        "crystals, MACE 128x0e of 89 elements": (lambda: AtomsMLCalculator(wide), some_crystals),
    }
    rows = [[name, *measure(*stream)] for name, stream in streams.items()]
    print(table(["stream", "atoms each", "one call each, ms", "repeated call, ms", "ratio"], rows))


if __name__ == "__main__":
    main()
