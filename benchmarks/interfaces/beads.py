"""Path integrals in i-PI: all beads as one batch beside one by one, of whole steps and of the driver alone.

    OMP_NUM_THREADS=1 python -m benchmarks.interfaces.beads [--docs]

CPU time of one thread; contenders take turns. Three minutes of one core.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

import ase
import numpy as np
import torch
from ase import units
from ase.build import bulk, molecule
from ase.io import write
from ipi.scripting import InteractiveSimulation, motion_nvt_xml, simulation_xml

from atomsml.interfaces.ipi import AtomsMLDriver, forcefield_xml
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

TURNS, STEPS, BEADS, TEMPERATURE, TIMESTEP = 5, 10, 32, 300.0, 0.25  # K, fs
NO_FILES = "<output><properties filename='out' stride='1000'> [step] </properties></output>"


@dataclass(frozen=True)
class Case:
    name: str
    atoms: ase.Atoms
    model: str


def drop() -> ase.Atoms:
    """Eight molecules of water on a grid."""
    atoms, one = ase.Atoms(), molecule("H2O")
    for corner in np.ndindex(2, 2, 2):
        one.positions += 3.1 * np.array(corner) - one.positions[0]
        atoms += one
    return atoms


CASES = (
    Case("water", molecule("H2O"), "organic-xtb"),
    Case("8 water", drop(), "organic-xtb"),
    Case("54 tungsten", bulk("W", cubic=True) * (3, 3, 3), "refractory-pbe"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write the table to docs/interfaces/ipi.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # i-PI writes where it runs
        rows = [row(case) for case in CASES]
    header = ["", "one batch, ms", "one by one, ms", "ratio", "driver alone: one batch, ms", "one by one, ms", "ratio"]
    about = (
        f"A step of {BEADS} beads; {processor()}, one thread, torch {torch.__version__}, i-PI {version('ipi')}, "
        "precision mixed."
    )
    text = f"{about}\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "interfaces" / "ipi.md", "beads", text)


def row(case: Case) -> list[str]:
    structures = [case.atoms.copy() for _ in range(BEADS)]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.02, seed=seed)
        atoms.cell = case.atoms.cell if case.atoms.pbc.any() else np.eye(3) * 30.0
    write("template.xyz", case.atoms)
    together, apart = (run(case, structures, batch) for batch in (BEADS, 1))
    driver = AtomsMLDriver(case.model, "template.xyz")
    alone = AtomsMLDriver(case.model, "template.xyz")
    cells = [atoms.cell.array.T / units.Bohr for atoms in structures]
    positions = [atoms.positions / units.Bohr for atoms in structures]
    steps = (
        lambda: together.run(STEPS, write_outputs=False),
        lambda: apart.run(STEPS, write_outputs=False),
        lambda: [driver(cells, positions) for _ in range(STEPS)],
        lambda: [alone(*one) for _ in range(STEPS) for one in zip(cells, positions, strict=True)],
    )
    times = [[milliseconds(step) for step in steps] for _ in range(TURNS + 1)][1:]
    batch, single, driver_batch, driver_single = (median(column) for column in zip(*times, strict=True))
    return [
        case.name,
        *(three_digits(batch), three_digits(single), f"{single / batch:.1f}"),
        *(three_digits(driver_batch), three_digits(driver_single), f"{driver_single / driver_batch:.1f}"),
    ]


def run(case: Case, structures: list[ase.Atoms], batch: int) -> InteractiveSimulation:
    field = forcefield_xml(case.model, "template.xyz", batch)
    motion = motion_nvt_xml(TIMESTEP * units.fs, "pile_l", path_integrals=True, tau=100 * units.fs)
    return InteractiveSimulation(simulation_xml(structures, field, motion, TEMPERATURE, NO_FILES))


def milliseconds(step: Callable[[], object]) -> float:
    """CPU time of one of its steps."""
    start = time.process_time()
    step()
    return (time.process_time() - start) / STEPS * 1e3


if __name__ == "__main__":
    main()
