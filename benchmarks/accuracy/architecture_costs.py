"""What a trained model costs: time and memory of energy, forces and, of crystals, stress, by `potential.predictor()`.

Each model is loaded in a process of its own with one thread and float32, and predicts a small and a large structure;
neighbour lists are made beforehand. Processes take turns: half a second of calls each, again and again. Memory is by
how much the first prediction of the large structure raises the largest resident size of the process, after kernels were
compiled for the small one.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
from ase import Atoms

from benchmarks.shared.peers import Program, answer_words, sustained, take_turns
from benchmarks.shared.reporting import read_frames

MOLECULES = 64  # in the large system of molecules
CELLS = (8, 8, 4)  # of two atoms, in the large crystal
LATTICE = 3.24  # A: of bcc NbMoTaW
WORDS = ("small", "large")
REPEATS = 5


def alloy(cells: tuple[int, int, int], displacement: float) -> Atoms:
    """Bcc NbMoTaW, its elements in random order, every coordinate displaced at random (standard deviation in A)."""
    rng = np.random.default_rng(0)
    atoms = ase.build.bulk("W", cubic=True, a=LATTICE).repeat(cells)
    atoms.symbols[:] = rng.permutation(np.resize(["Nb", "Mo", "Ta", "W"], len(atoms)))
    atoms.positions += rng.normal(0, displacement, atoms.positions.shape)
    return atoms


def write_structures(test: Path, crystals: bool, folder: Path) -> None:
    """small.extxyz has the first structure of a test set; large.extxyz an alloy of 512 atoms, or 64 molecules."""
    frames = read_frames(test)
    large = [alloy(CELLS, 0.1)] if crystals else frames[:MOLECULES]
    for word, systems in zip(WORDS, (frames[:1], large), strict=True):
        ase.io.write(
            folder / f"{word}.extxyz", [Atoms(x.numbers, x.positions, cell=x.cell, pbc=x.pbc) for x in systems]
        )


def measure_costs(models: Mapping[str, Path], folder: Path) -> dict[str, dict[str, Any]]:
    """For each model: microseconds per atom of both structures (medians), their atoms, memory in MB; or "failure"."""
    atoms = {word: sum(map(len, ase.io.iread(folder / f"{word}.extxyz"))) for word in WORDS}
    costs: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        programs = {name: stack.enter_context(start(model, folder)) for name, model in models.items()}
        for name, program in list(programs.items()):
            try:
                costs[name] = {"memory": program.ask("memory"), "atoms": atoms}
            except OSError as error:
                costs[name] = {"failure": str(error).rpartition(" ended: ")[2]}
                del programs[name]
        for word in WORDS:
            times = take_turns([partial(program.ask, word) for program in programs.values()], REPEATS, warm_up=2)
            for name, seconds in zip(programs, times, strict=True):
                costs[name][word] = 1e6 * statistics.median(seconds) / atoms[word]
                print(f"{name}: {costs[name][word]:.1f} us/atom, {atoms[word]} atoms", flush=True)
    return costs


def start(model: Path, folder: Path) -> Program:
    structures = [folder / f"{word}.extxyz" for word in WORDS]
    return Program([sys.executable, "-m", "benchmarks.accuracy.architecture_costs", model, *structures], threads=1)


def main() -> None:
    """Be the program of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("structures", type=Path, nargs=len(WORDS), help="small and large")
    arguments = parser.parse_args()
    import torch

    from atomsml.graph import AtomicGraph
    from atomsml.modelfile import load

    torch.set_num_threads(1)
    potential = load(arguments.model).cast(torch.float32).requires_grad_(False)
    predict = potential.predictor()
    graphs = {}
    for word, path in zip(WORDS, arguments.structures, strict=True):
        systems = [AtomicGraph.from_ase(atoms, torch.float32) for atoms in ase.io.iread(path)]
        graphs[word] = AtomicGraph.from_list(systems).with_neighbors(potential.cutoff)

    def run(word: str) -> None:
        predict(graphs[word], forces=True, stress=bool(graphs[word].pbc.all()))

    def memory() -> float:
        run("small")
        before = peak()
        run("large")
        return peak() - before

    answer_words({"memory": memory, **{word: partial(sustained, partial(run, word)) for word in WORDS}})


def peak() -> float:
    """Largest resident size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
