"""How thick the skin of a neighbour list should be: how long lists last, and what they cost, in several dynamics.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.verlet_skin [--docs]

Ethanol by `organic-xtb` and tungsten by `refractory-pbe`, at constant temperature (Langevin), are run once; then a
`VerletList` of each skin follows their positions. The time is that of its updates, new lists and checks together: CPU
time of one thread.
Edges in vain are those longer than the cutoff, at which the model looks for nothing.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from importlib.metadata import version

import ase
import numpy as np
import torch
from ase import units
from ase.build import bulk, molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from atomsml import AtomicGraph, AtomsMLCalculator
from atomsml.neighbors.verlet import VerletList
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

SKINS = (0.0, 0.3, 0.5, 0.8, 1.2, 2.0)  # A
CUTOFF, STEPS, SETTLING = 5.0, 600, 200


@dataclass(frozen=True)
class Run:
    name: str
    atoms: ase.Atoms
    model: str
    temperature: float  # K
    timestep: float  # fs

    def trajectory(self) -> list[AtomicGraph]:
        """The settled part of the dynamics."""
        atoms, rng = self.atoms.copy(), np.random.default_rng(0)
        atoms.calc = AtomsMLCalculator(self.model, device="cpu")
        MaxwellBoltzmannDistribution(atoms, temperature_K=self.temperature, rng=rng)
        bath = {"temperature_K": self.temperature, "friction": 0.01 / units.fs, "fixcm": False}
        dynamics = Langevin(atoms, self.timestep * units.fs, rng=rng, **bath)
        dynamics.run(SETTLING)
        return [AtomicGraph.from_ase(atoms) for _ in dynamics.irun(STEPS)][1:]


TUNGSTEN = bulk("W", cubic=True) * (5, 5, 5)
RUNS = (
    Run("ethanol, 300 K, 0.5 fs", molecule("CH3CH2OH"), "organic-xtb", 300, 0.5),
    Run("250 W, 300 K, 2 fs", TUNGSTEN, "refractory-pbe", 300, 2.0),
    Run("250 W, 2000 K, 2 fs", TUNGSTEN, "refractory-pbe", 2000, 2.0),
)


def follow(trajectory: list[AtomicGraph], skin: float) -> list[str]:
    """Steps that a list lasts, time of the updates, edges in vain."""
    kept, atoms = VerletList(CUTOFF, skin), trajectory[0].num_atoms
    kept.update(trajectory[0])
    start = time.thread_time()
    edges = [num_edges(kept.update(graph)) for graph in trajectory]
    spent = (time.thread_time() - start) / (len(trajectory) * atoms)
    needed = np.mean([num_edges(graph.with_neighbors(CUTOFF)) for graph in trajectory[::50]])
    made = kept.rebuilds - 1
    lasts = f"{len(trajectory) / made:.0f}" if made else f"over {len(trajectory)}"
    return [lasts, three_digits(1e6 * spent), f"{100 * abs(np.mean(edges) / needed - 1):.0f} %"]


def num_edges(graph: AtomicGraph) -> int:
    assert graph.edge_index is not None
    return graph.edge_index.shape[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/speed.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for run in RUNS:
        trajectory = run.trajectory()
        rows += [[run.name, f"{skin:g}", *follow(trajectory, skin)] for skin in SKINS]
        print(*rows[-len(SKINS) :], sep="\n", flush=True)
    header = ["", "skin, A", "steps that a list lasts", "us/atom and step", "edges in vain"]
    machine = f"{processor()}, one thread, torch {version('torch')}"
    text = f"{machine}. Cutoff {CUTOFF:g} A, {STEPS} steps after {SETTLING} of settling.\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "speed.md", "skin", text)


if __name__ == "__main__":
    main()
