"""Force constants of small crystals: one batch of all displaced supercells beside two ways with ASE, with one model.

    python -m benchmarks.properties.phonons [--models universal-small sevennet-0] [--docs]

- atomsml: as few displacements as symmetry allows, of all crystals, evaluated together,
- phonopy and ASE: phonopy's displacements, which are as many, one after the other with the calculator,
- ase.phonons: every atom of the primitive cell moved along x, y and z, both ways, one supercell after the other.

All have the same minima and supercells. Time is that of the processor, the best of three; that of forces is the calls
of the model with all that makes and batches structures, that of all is from a minimum to force constants.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
import torch
from ase.build import bulk
from ase.phonons import Phonons
from ase.spacegroup import crystal
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.phonons.force_constants import Displaced
from atomsml.properties.phonons.harmonic import TOLERANCE
from atomsml.simulate.relax import RelaxSettings
from benchmarks.shared.reporting import DOCS, processor, replace_section, table

REPEATS = 3
RUTILE = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.95, 90, 90, 90])
ZIRCONIA = crystal(
    ["Zr", "O", "O"],
    [(0.276, 0.04, 0.208), (0.07, 0.332, 0.345), (0.45, 0.757, 0.479)],
    spacegroup=14,
    cellpar=[5.15, 5.21, 5.32, 90, 99.2, 90],
)
CRYSTALS = [
    *(bulk("Si"), bulk("Cu"), bulk("W"), bulk("Mg")),
    *(bulk("NaCl", "rocksalt", a=5.64), bulk("ZnO", "wurtzite", a=3.25, c=5.2)),
    *(RUTILE, ZIRCONIA),
]
MULTIPLES = [(3, 3, 3), (4, 4, 4), (4, 4, 4), (3, 3, 2), (3, 3, 3), (3, 3, 2), (2, 2, 3), (2, 2, 2)]
Cells = list[tuple[ase.Atoms, tuple[int, int, int]]]  # minima with forces, and their supercells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["universal-small", "sevennet-0"])
    parser.add_argument("--docs", action="store_true", help="put the table into docs/properties/phonons.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for model in arguments.models for row in rows_of(model)]
    header = ["model", "way", "supercells", "forces, s", "beside atomsml", "all, s", "beside atomsml"]
    names = ", ".join(str(atoms.symbols) for atoms in CRYSTALS)
    sizes = [len(atoms) * int(np.prod(n)) for atoms, n in zip(CRYSTALS, MULTIPLES, strict=True)]
    about = f"{names} in supercells of {min(sizes)} to {max(sizes)} atoms; {processor()}, one thread"
    text = f"{about}, torch {torch.__version__}.\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "properties" / "phonons.md", "displacement runs", text)


def rows_of(model: str) -> list[list[str]]:
    calculator = AtomsMLCalculator(model, device="cpu")
    engine = Engine.of(calculator)
    settings = RelaxSettings(fmax=0.001, cell=True, steps=500, symmetry=TOLERANCE)
    minima = {each.index: each.atoms for each in engine.relax(CRYSTALS, settings)}
    cells = [(minima[i], multiples) for i, multiples in enumerate(MULTIPLES)]
    ways: dict[str, Callable[[], tuple[int, float]]] = {
        "atomsml": lambda: batched(engine, cells),
        "phonopy and ASE": lambda: one_by_one(calculator, cells),
        "ase.phonons": lambda: by_ase(calculator, cells),
    }
    found = {name: best(way) for name, way in ways.items()}
    _, forces, whole = found["atomsml"]
    return [
        [Path(model).stem, name, f"{count}", f"{a:.2f}", f"{a / forces:.1f}", f"{b:.2f}", f"{b / whole:.1f}"]
        for name, (count, a, b) in found.items()
    ]


def best(way: Callable[[], tuple[int, float]]) -> tuple[int, float, float]:
    """Supercells, and seconds of forces and of all; the first time is for machine code, and does not count."""
    way()
    forces, whole = np.inf, np.inf
    for _ in range(REPEATS):
        start = time.process_time()
        count, seconds = way()
        whole, forces = min(whole, time.process_time() - start), min(forces, seconds)
    return count, forces, whole


def batched(engine: Engine, cells: Cells) -> tuple[int, float]:
    waiting = [Displaced.of(cell, np.diag(multiples), 0.01) for cell, multiples in cells]
    start = time.process_time()
    images = [each.images for each in waiting]
    evaluated = iter(engine.evaluate([image for some in images for image in some]))
    seconds = time.process_time() - start
    for each, some in zip(waiting, images, strict=True):
        each.solve([next(evaluated) for _ in some])
    return sum(map(len, images)), seconds


def one_by_one(calculator: AtomsMLCalculator, cells: Cells) -> tuple[int, float]:
    count, seconds = 0, 0.0
    for cell, multiples in cells:
        unit = PhonopyAtoms(list(cell.symbols), cell=cell.cell.array, scaled_positions=cell.get_scaled_positions())
        phonopy = Phonopy(unit, multiples)
        phonopy.generate_displacements(distance=0.01)
        start = time.process_time()
        forces = []
        for each in phonopy.supercells_with_displacements:
            image = ase.Atoms(each.symbols, each.positions, cell=each.cell, pbc=True)
            image.calc = calculator
            forces.append(image.get_forces())
        seconds += time.process_time() - start
        phonopy.forces = forces
        phonopy.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
        phonopy.symmetrize_force_constants(show_drift=False)
        count += len(forces)
    return count, seconds


def by_ase(calculator: AtomsMLCalculator, cells: Cells) -> tuple[int, float]:
    count, seconds = 0, 0.0
    for cell, multiples in cells:
        with tempfile.TemporaryDirectory() as folder:
            found = Phonons(cell.copy(), calculator, multiples, name=f"{folder}/phonons", delta=0.01)
            start = time.process_time()
            found.run()
            seconds += time.process_time() - start
            found.read(acoustic=True)
        count += 6 * len(cell) + 1
    return count, seconds


if __name__ == "__main__":
    main()
