"""LAMMPS over processes: two kinds of halo, weak scaling on the cores at hand, and up to 1,000 processes on paper.

    OMP_NUM_THREADS=1 python -m benchmarks.interfaces.lammps [--docs]

Shaken tungsten. The halos are compared by the CPU time of one process, for cubes of atoms that it owns in a larger
crystal:

    returned     ghosts as far as the network reaches, layers computed outwards, forces on ghosts sent home
    redundant    ghosts twice as far, everything computed for all of them, nothing sent

Weak scaling runs LAMMPS with the same atoms for each process, and takes the time of its loop; with more processes than
idle cores it says nothing. Three minutes of two cores.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import torch
from ase.build import bulk

from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.interfaces.lammps.launch import launch
from atomsml.potential import Potential
from atomsml.programs.predictor import PlannedPredictor
from atomsml.region import Copies, Region
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

MODEL, LATTICE, SKIN = "refractory-pbe", 3.17, 0.5  # A
EDGES = (2, 4, 6, 8)  # of the cubes, in lattice constants
TURNS = 5
BOXES = ((1, (6, 6, 6)), (2, (12, 6, 6)))  # processes, and the crystal that they share
SIZES, RANKS = (2_000, 16_000, 128_000, 1_024_000), (1, 2, 8, 27, 64, 125, 343, 1000)

INPUT = """
units metal
processors * 1 1
lattice bcc {lattice}
region box block 0 {box[0]} 0 {box[1]} 0 {box[2]}
create_box 1 box
create_atoms 1 box
mass 1 183.84
pair_style atomsml
pair_coeff * * W
velocity all create 600 1
fix 1 all nve
timestep 0.002
thermo 10
run 10
run 20
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write the tables to docs/interfaces/lammps.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    potential = AtomsMLCalculator(MODEL, "cpu", "mixed").potential
    assert isinstance(potential, Potential)
    reach = f"{potential.hops()} layers, cutoff {potential.cutoff:g} A, halo {potential.hops() * potential.cutoff:g} A"
    about = (
        f"{MODEL}: {reach}; {processor()}, one thread a process, torch {torch.__version__}, "
        f"LAMMPS {version('lammps')}, precision mixed."
    )
    parts = [about, "Both halos:", halos(potential), "As many atoms for each process:", weak_scaling()]
    parts += ["Speedup over one process, on paper:", on_paper(potential)]
    text = "\n\n".join(parts)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "interfaces" / "lammps.md", "cost", text)


def halos(potential: Potential) -> str:
    program, hops = potential.program(), potential.hops()
    assert isinstance(program, PlannedPredictor)
    rows = []
    for edge in EDGES:
        returned, _ = Region.around(cube(potential, edge), 2 * edge**3, potential.cutoff + SKIN, hops)
        redundant, _ = Region.around(cube(potential, edge), 2 * edge**3, potential.cutoff + SKIN, 2 * hops)
        times = in_turns([lambda one=returned: program.of_region(one), lambda one=redundant: program(one.graph)])
        counts = [str(2 * edge**3), str(returned.graph.num_atoms), str(redundant.graph.num_atoms)]
        rows.append([*counts, *(three_digits(1e3 * x) for x in times), three_digits(times[1] / times[0])])
    header = ["own atoms", "with ghosts: returned", "redundant", "returned, ms", "redundant, ms", "ratio"]
    return table(header, rows)


def cube(potential: Potential, edge: int) -> Copies:
    """Atoms of a cube of a crystal, then those around it, as far as the redundant halo reaches."""
    margin = int(np.ceil(2 * potential.hops() * (potential.cutoff + SKIN) / LATTICE))
    atoms = bulk("W", a=LATTICE, cubic=True).repeat(edge + 2 * margin)
    low, high = (margin - 0.25) * LATTICE, (margin + edge - 0.25) * LATTICE
    inside = ((atoms.positions > low) & (atoms.positions < high)).all(axis=1)
    order = np.argsort(~inside, kind="stable")
    atoms.rattle(0.05, seed=0)
    positions, cell = torch.from_numpy(atoms.positions[order]), torch.from_numpy(atoms.cell.array)
    return Copies(positions, torch.from_numpy(atoms.numbers), torch.arange(len(atoms)), cell)


def in_turns(contenders: list[Callable[[], object]]) -> list[float]:
    """Median CPU seconds of each, after a first call."""
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(TURNS + 1):
        for contender, mine in zip(contenders, times, strict=True):
            start = time.process_time()
            contender()
            mine.append(time.process_time() - start)
    return [median(mine[1:]) for mine in times]


def weak_scaling() -> str:
    rows = []
    for ranks, box in BOXES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "in.lammps").write_text(INPUT.format(lattice=LATTICE, box=box))
            launch(ranks, ["in.lammps", "--quiet", "--model", MODEL], folder)
            log = (folder / "log.lammps").read_text()
        seconds, steps, atoms = re.findall(r"Loop time of (\S+) on .* for (\d+) steps with (\d+) atoms", log)[-1]
        ghosts = re.findall(r"^Nghost:\s+(\S+)", log, re.MULTILINE)[-1]
        step = 1e3 * float(seconds) / int(steps)
        cells = [str(ranks), atoms, ghosts, three_digits(step), three_digits(step * ranks / int(atoms) * 1e3)]
        rows.append(cells)
    header = ["processes", "atoms", "ghosts of a process", "a step, ms", "process time a step and atom, us"]
    return table(header, rows)


def on_paper(potential: Potential) -> str:
    """Atoms in all layers that a process computes, over those of one process: neither waiting nor sending counts."""
    rows = []
    for atoms in SIZES:
        one = atoms * potential.hops()
        rows.append([f"{atoms:,}", *(three_digits(one / computed(potential, atoms, ranks)) for ranks in RANKS)])
    return table(["atoms", *(f"{ranks} processes" for ranks in RANKS)], rows)


def computed(potential: Potential, atoms: int, ranks: int) -> float:
    """Atoms times layers of a process that owns a cube: layer by layer a cutoff farther, and never all atoms twice."""
    density = 2 / LATTICE**3
    edge = (atoms / ranks / density) ** (1 / 3)
    around = (density * (edge + 2 * k * potential.cutoff) ** 3 for k in range(potential.hops()))
    return sum(min(atoms, shell) for shell in around)


if __name__ == "__main__":
    main()
