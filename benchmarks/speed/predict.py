"""Many different molecules, one way beside the other: `atomsml.predict`, the calculator, and `evaluate`.

    python -m benchmarks.speed.predict [--molecules 256] [--threads 1]

Energies and forces of random chains by organic-xtb; milliseconds for each molecule, medians of five turns.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from statistics import median

import torch

import atomsml
from atomsml import AtomicGraph, AtomsMLCalculator
from atomsml.interfaces import predict as prediction

GROUPS = ("C", "C(C)", "O", "N", "C(=O)", "C(F)", "S", "C(Cl)")


def molecules(count: int) -> list[AtomicGraph]:
    draw = random.Random(0)
    smiles = ["C" + "".join(draw.choice(GROUPS) for _ in range(draw.randint(1, 9))) + "C" for _ in range(count)]
    return [AtomicGraph.from_smiles(each) for each in smiles]


def turns(ways: dict[str, Callable[[], object]], count: int, repeats: int = 5) -> dict[str, float]:
    """Milliseconds for each molecule."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append(1000 * (time.perf_counter() - start) / count)
    return {name: median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    graphs = molecules(arguments.molecules)
    potential, calculator = atomsml.load("organic-xtb"), AtomsMLCalculator("organic-xtb")
    frames = [graph.to_ase() for graph in graphs]

    def by_calculator() -> None:
        for atoms in frames:
            calculator.calculate(atoms, ["forces"])

    def with_batches_of(atoms: int) -> None:
        prediction.MOST_ATOMS = atoms
        atomsml.predict(potential, graphs)

    ways: dict[str, Callable[[], object]] = {
        f"predict, batches of {atoms} atoms": lambda atoms=atoms: with_batches_of(atoms)  # type: ignore[misc]
        for atoms in (250, 500, 1000, 2000, 4000)
    }
    ways["predict, one by one"] = lambda: [atomsml.predict(potential, graph) for graph in graphs]
    ways["calculator, one by one"] = by_calculator
    ways["evaluate, one by one"] = lambda: [atomsml.evaluate(potential, graph) for graph in graphs]
    ways["evaluate, all at once"] = lambda: atomsml.evaluate(potential, AtomicGraph.from_list(graphs))
    print(f"{sum(graph.num_atoms for graph in graphs) / len(graphs):.1f} atoms in a molecule")
    for name, milliseconds in turns(ways, len(graphs)).items():
        print(f"{name:30}{milliseconds:8.3f} ms")


if __name__ == "__main__":
    main()
