"""D3 beside the package dftd3: 200 molecules and 50 crystals, and what it takes beside the network.

    python -m benchmarks.properties.d3 DATA [--docs]

DATA is the folder of data sets: molecules_static/qm7/qm7.extxyz.xz, crystals/mp_20_biternary.csv.gz, and for the times
references/x23/structures.extxyz.xz. Both sums end at the same distances. Times are of the
processor, the best of several, of energy, forces and stress, on one thread.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import ase
import ase.io
import numpy as np
import torch
from ase.build import bulk
from ase.units import Bohr, Hartree
from dftd3.interface import DispersionModel, RationalDampingParam

from atomsml import AtomicGraph, AtomsMLCalculator
from atomsml.dispersion import D3, Cutoffs
from benchmarks.shared.reporting import DOCS, read_frames, replace_section, table, three_digits

MOLECULES, CRYSTALS, MOST_ATOMS, SEED = 200, 50, 60, 0
CUTOFFS = Cutoffs()
MODEL = "universal-small"


def molecules(data: Path) -> list[ase.Atoms]:
    """Some of QM7, which has H, C, N, O and S, shaken so that forces are not small."""
    frames, random = read_frames(data / "molecules_static" / "qm7" / "qm7.extxyz.xz"), np.random.default_rng(SEED)
    chosen = [frames[i] for i in random.choice(len(frames), MOLECULES, replace=False)]
    for i, atoms in enumerate(chosen):
        atoms.rattle(0.05, seed=i)
    return chosen


def crystals(data: Path) -> list[ase.Atoms]:
    """Some of the Materials Project with up to MOST_ATOMS atoms, shaken."""
    with gzip.open(data / "crystals" / "mp_20_biternary.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    found: list[ase.Atoms] = []
    for i in np.random.default_rng(SEED).permutation(len(rows)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = ase.io.read(io.StringIO(rows[i]["cif"]), format="cif")
        if len(atoms) <= MOST_ATOMS and max(atoms.numbers) <= 94:
            atoms.rattle(0.05, seed=len(found))
            found.append(atoms)
        if len(found) == CRYSTALS:
            break
    return found


def by_dftd3(atoms: ase.Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    periodic = {"lattice": atoms.cell.array / Bohr, "periodic": atoms.pbc} if atoms.pbc.any() else {}
    model = DispersionModel(atoms.numbers, atoms.positions / Bohr, **periodic)
    model.set_realspace_cutoff(CUTOFFS.pairs, CUTOFFS.triples, CUTOFFS.coordination)
    found = model.get_dispersion(RationalDampingParam(method="pbe", atm=False), grad=True)
    return found["energy"], -found["gradient"], found["virial"]


def deviations(structures: Sequence[ase.Atoms]) -> list[str]:
    """Largest of energies (hartree), forces (hartree/bohr) and strain derivatives (hartree), and times of all (s)."""
    d3 = D3.of("pbe")
    graph = AtomicGraph.from_list([AtomicGraph.from_ase(bare(atoms)) for atoms in structures])
    d3(graph, stress=True)
    start = time.process_time()
    ours = d3(graph, stress=True).split([len(atoms) for atoms in structures], [1] * len(structures))
    between = time.process_time()
    theirs = [by_dftd3(atoms) for atoms in structures]
    end = time.process_time()
    worst = np.zeros(3)
    for atoms, one, (energy, forces, strain) in zip(structures, ours, theirs, strict=True):
        found = abs(one.energy.item() / Hartree - energy), abs(one.forces.numpy() * Bohr / Hartree - forces).max()
        stress = one.stress[0].numpy() * atoms.get_volume() / Hartree - strain if atoms.pbc.any() else np.zeros(1)
        worst = np.maximum(worst, [*found, abs(stress).max()])
    shown = [f"{x:.0e}" if x else "-" for x in worst]
    return [str(len(structures)), *shown, three_digits(between - start), three_digits(end - between)]


def bare(atoms: ase.Atoms) -> ase.Atoms:
    return ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def best(work: Callable[[], object], repeats: int = 7) -> float:
    """ms"""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def speed(data: Path) -> list[list[str]]:
    calculator, d3 = AtomsMLCalculator(MODEL, device="cpu"), D3.of("pbe")
    silicon, rows = bulk("Si", cubic=True), []
    benzene = next(
        atoms
        for atoms in read_frames(data / "references" / "x23" / "structures.extxyz.xz")
        if atoms.info["id"] == "benzene"
    )
    cases = {"silicon": silicon * 2, "silicon, larger": silicon * 4, "benzene crystal": benzene}
    for name, atoms in cases.items():
        atoms = bare(atoms)
        atoms.rattle(0.02, seed=SEED)
        graph = AtomicGraph.from_ase(atoms).connected(calculator.potential.cutoff)
        ours = best(lambda graph=graph: d3(graph, stress=True))
        network = best(lambda graph=graph: calculator.predict(graph, True, True))
        theirs = best(lambda atoms=atoms: by_dftd3(atoms))
        rows.append([name, str(len(atoms)), *map(three_digits, (ours, network, theirs)), f"{theirs / ours:.1f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/properties/d3.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = arguments.data
    rows = [
        ["molecules (QM7)", *deviations(molecules(data))],
        ["crystals (Materials Project)", *deviations(crystals(data))],
    ]
    head = ["", "number", "energy, hartree", "forces, hartree/bohr", "dE/dstrain, hartree", "all, s", "dftd3, s"]
    agreement = table(head, rows)
    head = ["", "atoms", "D3, ms", f"{MODEL}, ms", "dftd3, ms", "dftd3 / D3"]
    times = table(head, speed(data))
    print(agreement, times, sep="\n")
    if arguments.docs:
        page = DOCS / "properties" / "d3.md"
        replace_section(page, "d3-agreement", agreement)
        replace_section(page, "d3-speed", times)


if __name__ == "__main__":
    main()
