"""Time of a training step on energies and forces on a CPU: the MACE of atomsml, and mace-torch beside it.

    python -m benchmarks.speed.training_step [--peer] [--threads 1 2]

A step is energy, forces, loss, gradients of the weights by double backward, clipping of gradients and one Adam update,
in float32, of models of 64x0e + 64x1o with two layers and correlation 3, on five molecules; neighbour lists are made
beforehand. Both programs hold the same sizes and take turns; the table has medians of wall time. The peer runs in an
interpreter of its own, since the two want different versions of e3nn.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms

from benchmarks.shared.peers import Program, answer_words, peer_python, seconds, take_turns
from benchmarks.shared.reporting import processor, spread, table

if TYPE_CHECKING:
    from atomsml.potentials.mace import MACE

COPIES, CHANNELS, CUTOFF = 5, 64, 5.0
NEIGHBORS = 15.0  # by which messages are divided
SPREAD = 0.05  # of the displacements of atoms, A


@dataclass(frozen=True)
class Case:
    """A molecule and the sizes of the model trained on it."""

    name: str
    smiles: str
    lmax: int
    radial_mlp: list[int]


CASES = (
    Case("3BPA, lmax 3", "Nc1ncccc1OCc1ccccc1", 3, [64, 64, 64]),
    Case("aspirin, lmax 2", "CC(=O)Oc1ccccc1C(=O)O", 2, [32, 32]),
)


def frames(case: Case) -> list[Atoms]:
    """Shaken copies of the molecule."""
    from atomsml.io import atoms_from_smiles

    clean = atoms_from_smiles(case.smiles)
    random = np.random.default_rng(0)
    return [
        Atoms(clean.numbers, clean.positions + random.normal(0, SPREAD, clean.positions.shape)) for _ in range(COPIES)
    ]


def train(run: Callable[[], torch.Tensor], parameters: list[torch.nn.Parameter]) -> Callable[[], None]:
    """The update of both programs, given the function that computes their loss."""
    optimizer = torch.optim.Adam(parameters, lr=1e-4, amsgrad=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(run(), inputs=parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()

    return step


def of_atomsml(case: Case, molecules: list[Atoms]) -> Callable[[], None]:
    return step_of(mace_of(case, molecules), molecules)


def mace_of(case: Case, molecules: list[Atoms], product: str = "clebsch_gordan") -> MACE:
    from atomsml.potentials.mace import MACE, MACEConfig

    config = MACEConfig(
        elements=tuple(np.unique(molecules[0].numbers).tolist()),
        cutoff=CUTOFF,
        channels=CHANNELS,
        hidden_lmax=1,
        lmax=case.lmax,
        product=product,
        radial_mlp=tuple(case.radial_mlp),
        avg_num_neighbors=NEIGHBORS,
    )
    torch.manual_seed(0)
    return MACE(config)


def step_of(potential: MACE, molecules: list[Atoms]) -> Callable[[], None]:
    from atomsml.graph import AtomicGraph
    from atomsml.potential import evaluate

    graph = AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in molecules]).with_neighbors(CUTOFF)

    def loss() -> torch.Tensor:
        prediction = evaluate(potential, graph, create_graph=True)
        assert prediction.forces is not None
        return (prediction.energy / graph.atoms_per_system).square().mean() + prediction.forces.square().mean()

    return train(loss, list(potential.parameters()))


def of_mace_torch(case: Case, molecules: list[Atoms]) -> Callable[[], None]:
    from benchmarks.shared import peer_mace

    torch.manual_seed(0)
    elements = np.unique(molecules[0].numbers).tolist()
    model = peer_mace.build(elements, CHANNELS, 1, CUTOFF, NEIGHBORS, case.lmax, case.radial_mlp).float()
    batch = peer_mace.batch(molecules, elements, CUTOFF, torch.float32)
    size = len(molecules[0])

    def loss() -> torch.Tensor:
        out = model(dict(batch), training=True)
        return (out["energy"] / size).square().mean() + out["forces"].square().mean()

    return train(loss, list(model.parameters()))


def serve(job: dict[str, Any]) -> None:
    """Be the peer, which makes a step whenever it is asked to."""
    torch.set_num_threads(job["threads"])
    molecules = [Atoms(numbers, positions) for numbers, positions in job["molecules"]]
    step = of_mace_torch(Case(**job["case"]), molecules)
    answer_words({"seconds": lambda: seconds(step)})


@dataclass(frozen=True)
class Times:
    """Seconds of the steps of one case, with one number of threads."""

    case: Case
    atoms: int  # of a molecule
    threads: int
    first: float  # step of atomsml, which compiles kernels
    ours: list[float]
    theirs: list[float] = field(default_factory=list)  # empty without the peer

    def row(self) -> list[str]:
        ours = spread([1000 * x for x in self.ours])
        cells = [self.case.name, f"{COPIES} x {self.atoms}", str(self.threads), ours, f"{self.first:.1f}"]
        if not self.theirs:
            return cells
        ratio = statistics.median(self.theirs) / statistics.median(self.ours)
        return [*cells, spread([1000 * x for x in self.theirs]), f"{ratio:.1f}"]


def measure(case: Case, threads: int, repeats: int, with_peer: bool) -> Times:
    torch.set_num_threads(threads)
    molecules = frames(case)
    step = of_atomsml(case, molecules)
    first = seconds(step)
    if not with_peer:
        return Times(case, len(molecules[0]), threads, first, *take_turns([lambda: seconds(step)], repeats))
    structures = [(atoms.numbers.tolist(), atoms.positions.tolist()) for atoms in molecules]
    job = json.dumps({"case": asdict(case), "threads": threads, "molecules": structures})
    with Program([peer_python(), "-m", "benchmarks.speed.training_step", "--job", job], threads) as peer:
        times = take_turns([lambda: seconds(step), lambda: peer.ask("seconds")], repeats)
    return Times(case, len(molecules[0]), threads, first, *times)


def report(measured: list[Times]) -> str:
    header = ["model", "atoms", "threads", "atomsml, ms/step", "first step, s"]
    if measured[0].theirs:
        header += ["mace-torch, ms/step", "ratio"]
    return table(header, [times.row() for times in measured])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--peer", action="store_true", help="measure mace-torch as well; installed where it is missing")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        serve(arguments.job)
        return
    print(f"{processor()}, torch {version('torch')}, llvmlite {version('llvmlite')}, float32\n")
    cases = [(case, threads) for threads in arguments.threads for case in CASES]
    print(report([measure(case, threads, arguments.repeats, arguments.peer) for case, threads in cases]))


if __name__ == "__main__":
    main()
