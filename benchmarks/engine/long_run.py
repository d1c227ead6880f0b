"""A long run of many systems: memory stays flat, energies stay finite, and the conserved energy does not run away.

    OMP_NUM_THREADS=1 python -m benchmarks.engine.long_run [--steps 100000] [--docs]

64 clusters of 8 to 23 argon atoms (Lennard-Jones, which costs next to nothing, so that the engine is what runs) at 20 K
with friction and noise, as one batch. Ten minutes of one core.
"""

from __future__ import annotations

import argparse
import resource
import time
from importlib.metadata import version

import ase
import numpy as np
import torch
from ase.build import bulk

from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import LennardJones
from benchmarks.shared.reporting import DOCS, processor, replace_section

SYSTEMS, TEMPERATURE, TIMESTEP, EVERY = 64, 20.0, 5.0, 1000


def cluster(size: int) -> ase.Atoms:
    """The atoms of a crystal that are nearest to a point."""
    atoms = bulk("Ar", cubic=True, a=5.3) * (4, 4, 4)
    distance = np.linalg.norm(atoms.positions - atoms.cell.array.sum(axis=0) / 2 - 0.1, axis=1)
    chosen = atoms[np.argsort(distance)[:size]]
    chosen.pbc, chosen.cell = False, None
    return chosen


def peak() -> float:
    """MB that the process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--docs", action="store_true", help="put the figures into docs/simulation.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    structures = [cluster(8 + i % 16) for i in range(SYSTEMS)]
    potential = LennardJones()
    model = Model(potential, potential.cutoff)
    integrator = Langevin(TIMESTEP, TEMPERATURE, thermostat_time=1000.0)
    early, start, temperatures, worst, lost = 0.0, time.process_time(), list[float](), 0.0, 0
    begin = torch.empty(0)
    for frame in md(structures, model, integrator, arguments.steps, every=EVERY, temperature=TEMPERATURE):
        if frame.step == EVERY:
            early, begin = peak(), frame.conserved.clone()
        if frame.step >= EVERY:
            lost += len(frame.lost)
            temperatures.append(frame.temperature.mean().item())
            worst = max(worst, ((frame.conserved - begin) / frame.state.atoms_per_system).abs().max().item())
            if frame.step % (10 * EVERY) == 0:
                now = f"{peak():.1f} MB, {np.mean(temperatures):.2f} K, conserved within {1e6 * worst:.2f} ueV/atom"
                print(f"step {frame.step}: {now}", flush=True)
    spent, atoms = time.process_time() - start, sum(map(len, structures))
    lists = model.neighbors.rebuilds if model.neighbors else 0
    text = (
        f"{SYSTEMS} clusters of argon, {atoms} atoms, {arguments.steps:,} steps of {TIMESTEP:g} fs in one batch: the "
        f"peak of the process was {early:.0f} MB after {EVERY:,} steps and {peak():.0f} MB at the end. {lost} systems "
        f"were lost, all energies were finite. The mean temperature was {np.mean(temperatures):.2f} K for "
        f"{TEMPERATURE:g} K, and no conserved energy moved by more than {1e6 * worst:.1f} µeV/atom. A step took "
        f"{1e3 * spent / arguments.steps:.2f} ms, and {lists:,} neighbour lists were made; {processor()}, one thread, "
        f"torch {version('torch')}."
    )
    print(text)
    if arguments.docs:
        replace_section(DOCS / "simulation.md", "long run", text)


if __name__ == "__main__":
    main()
