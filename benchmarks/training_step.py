"""Time of a training step on energies and forces on a CPU: the MACE of atomsml, and mace-torch beside it.

    python benchmarks/training_step.py [--peer .venv-peers/bin/python] [--threads 1 2]

A step is energy, forces, loss, gradients of the weights by double backward, clipping of gradients and one Adam update,
in float32, of models of 64x0e + 64x1o with two layers and correlation 3, on five molecules; neighbour lists are made
beforehand. Both programs hold the same sizes and take turns; the table has medians of wall time. The peer runs in an
interpreter of its own, since the two want different versions of e3nn.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

COPIES, CHANNELS, CUTOFF, SPREAD = 5, 64, 5.0, 0.05  # SPREAD: of the displacements of atoms, A


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


def frames(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """(numbers, positions in A) of shaken copies of the molecule."""
    from atomsml.graph import AtomicGraph

    molecule = AtomicGraph.from_smiles(case.smiles)
    random = np.random.default_rng(0)
    clean = molecule.positions.numpy()
    return [(molecule.numbers.numpy(), clean + random.normal(0, SPREAD, clean.shape)) for _ in range(COPIES)]


def train(run: Callable[[], torch.Tensor], parameters: list[torch.nn.Parameter]) -> Callable[[], None]:
    """The update of both programs, given the function that computes their loss."""
    optimizer = torch.optim.Adam(parameters, lr=1e-4, amsgrad=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(run(), inputs=parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()

    return step


def of_atomsml(case: Case, molecules: list[tuple[np.ndarray, np.ndarray]]) -> Callable[[], None]:
    from ase import Atoms

    from atomsml.graph import AtomicGraph
    from atomsml.potential import evaluate
    from atomsml.potentials.mace import MACE, MACEConfig

    config = MACEConfig(
        elements=tuple(np.unique(molecules[0][0]).tolist()),
        cutoff=CUTOFF,
        channels=CHANNELS,
        hidden_lmax=1,
        lmax=case.lmax,
        radial_mlp=tuple(case.radial_mlp),
        avg_num_neighbors=15.0,
    )
    torch.manual_seed(0)
    potential = MACE(config)
    graphs = [AtomicGraph.from_ase(Atoms(numbers, positions)) for numbers, positions in molecules]
    graph = AtomicGraph.from_list(graphs).with_neighbors(CUTOFF)

    def loss() -> torch.Tensor:
        prediction = evaluate(potential, graph, create_graph=True)
        assert prediction.forces is not None
        return (prediction.energy / graph.atoms_per_system).square().mean() + prediction.forces.square().mean()

    return train(loss, list(potential.parameters()))


def of_mace_torch(case: Case, molecules: list[tuple[np.ndarray, np.ndarray]]) -> Callable[[], None]:
    from e3nn import o3
    from mace import modules
    from matscipy.neighbours import neighbour_list

    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    elements = np.unique(molecules[0][0]).tolist()
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=case.lmax,
        interaction_cls_first=block,
        interaction_cls=block,
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps(f"{CHANNELS}x0e + {CHANNELS}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=15.0,
        atomic_numbers=elements,
        correlation=3,
        gate=torch.nn.functional.silu,
        radial_MLP=case.radial_mlp,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    ).float()
    numbers = np.concatenate([numbers for numbers, _ in molecules])
    box = np.eye(3) * 100.0  # matscipy needs a cell even where nothing is periodic
    edges = [
        np.stack(neighbour_list("ij", positions=x, cell=box, pbc=[False] * 3, cutoff=CUTOFF)) for _, x in molecules
    ]
    size = len(molecules[0][0])
    edge_index = torch.tensor(np.concatenate([pairs + i * size for i, pairs in enumerate(edges)], axis=1)).long()
    no_shift = torch.zeros(edge_index.shape[1], 3)
    batch = {
        "positions": torch.tensor(np.concatenate([x for _, x in molecules])).float(),
        "cell": torch.zeros(3 * len(molecules), 3),
        "edge_index": edge_index,
        "unit_shifts": no_shift,
        "shifts": no_shift,
        "node_attrs": torch.eye(len(elements))[[elements.index(z) for z in numbers]],
        "batch": torch.arange(len(molecules)).repeat_interleave(size),
        "ptr": torch.arange(len(molecules) + 1) * size,
        "head": torch.zeros(len(molecules), dtype=torch.int64),
    }

    def loss() -> torch.Tensor:
        out = model(dict(batch), training=True)
        return (out["energy"] / size).square().mean() + out["forces"].square().mean()

    return train(loss, list(model.parameters()))


def milliseconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - start)


def serve(folder: Path) -> None:
    """Be the peer: one step, and one line with its time, for each line read."""
    case = Case(**json.loads((folder / "case.json").read_text()))
    arrays = np.load(folder / "molecules.npz")
    step = of_mace_torch(case, list(zip(arrays["numbers"], arrays["positions"], strict=True)))
    for _ in sys.stdin:
        print(f"ms {milliseconds(step)}", flush=True)


class Peer:
    """mace-torch in another interpreter, asked for one step at a time."""

    def __init__(self, python: str, case: Case, molecules: list[tuple[np.ndarray, np.ndarray]], threads: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        (folder / "case.json").write_text(json.dumps(case.__dict__))
        numbers, positions = (np.stack(x) for x in zip(*molecules, strict=True))
        np.savez(folder / "molecules.npz", numbers=numbers, positions=positions)
        self.process = subprocess.Popen(
            [python, __file__, "--threads", str(threads), "--serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},  # mace-torch unpickles constants of e3nn
        )

    def milliseconds(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        for line in self.process.stdout:  # the peer greets with lines of its own
            if line.startswith("ms "):
                return float(line.split()[1])
        raise OSError("the interpreter of the peer ended: is mace-torch installed in it?")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def measure(case: Case, threads: int, repeats: int, python: str | None) -> str:
    """One row of the table."""
    torch.set_num_threads(threads)
    molecules = frames(case)
    peer = Peer(python, case, molecules, threads) if python else None
    start = time.perf_counter()
    step = of_atomsml(case, molecules)
    step()
    first = time.perf_counter() - start
    ours, theirs = [], []
    for _ in range(repeats + 2):  # the first two warm up
        ours.append(milliseconds(step))
        if peer is not None:
            theirs.append(peer.milliseconds())
    median = statistics.median(ours[2:])
    row = f"| {case.name} | {COPIES} x {len(molecules[0][0])} | {threads} | {median:.1f} | {first:.1f} |"
    if peer is None:
        return row
    peer.close()
    other = statistics.median(theirs[2:])
    return f"{row} {other:.0f} | {other / median:.1f} |"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has mace-torch")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        torch.set_num_threads(arguments.threads[0])
        serve(arguments.serve)
        return
    print(f"{processor()}, torch {version('torch')}, llvmlite {version('llvmlite')}, float32")
    head = "| model | atoms | threads | atomsml, ms/step | first step, s |"
    print(head + (" mace-torch, ms/step | ratio |" if arguments.peer else ""))
    print("|---" * (7 if arguments.peer else 5) + "|")
    for threads in arguments.threads:
        for case in CASES:
            print(measure(case, threads, arguments.repeats, arguments.peer), flush=True)


if __name__ == "__main__":
    main()
