"""Time of neighbour lists: those of atomsml beside vesin, matscipy, pymatgen and, of open systems, torch-cluster.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.neighbor_lists [--only "open systems"] [--docs]

All return full lists: receiver, sender and cell offsets of every edge. Those of atomsml are sorted by receiver, sender
and offset, those of matscipy and pymatgen by receiver, those of vesin if it is asked to. pymatgen also lists each atom
as its own neighbour, which is taken out. Programs that know no batches are called once for each molecule. torch-cluster
(`make cluster`) is measured twice: by itself, as `radius_graph` with room for as many neighbours as there are, in whose
result pairs stand in no order within an atom; and as the backend of `neighbor_list()`, which sorts them and makes
room for more where there was too little. They take turns; times are medians of wall time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import ase
import matscipy.neighbours
import numpy as np
import torch
import vesin
from pymatgen.optimization.neighbors import find_points_in_spheres

from atomsml.graph import AtomicGraph
from atomsml.neighbors import neighbor_list
from atomsml.neighbors.verlet import VerletList
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits
from benchmarks.shared.workloads import Structure

PEERS = ("vesin", "vesin, sorted", "matscipy", "pymatgen", "torch-cluster", "radius_graph")
ROUNDS = 9
SHORTEST = 20e-3  # seconds of calls in a turn


@dataclass(frozen=True)
class Case:
    structure: Structure
    cutoff: float  # A
    shuffled: bool = False
    periodic: bool = True  # where the structure is

    @property
    def name(self) -> str:
        order = ", in random order" if self.shuffled else ""
        return f"{self.structure.name}{order}, {self.structure.atoms:,} atoms, {self.cutoff:g} A"

    def systems(self) -> list[ase.Atoms]:
        systems = self.structure.systems()
        rng = np.random.default_rng(2)
        for atoms in systems:
            atoms.pbc = atoms.pbc & self.periodic
        return [atoms[rng.permutation(len(atoms))] for atoms in systems] if self.shuffled else systems


SILICON = [Case(Structure("silicon", n), cutoff) for n in (1, 2, 4, 5, 8, 10, 20, 23) for cutoff in (5.0, 6.0)]
CRYSTALS_AND_MOLECULES = [
    Case(Structure("ethanol"), 5.0),
    Case(Structure("ethanol", copies=64), 5.0),
    *SILICON,
    Case(Structure("silicon", 20), 5.0, shuffled=True),
    Case(Structure("water", 10), 5.0),
    Case(Structure("water", 10), 6.0),
]
OPEN_SYSTEMS = [
    *(Case(Structure("ethanol", copies=n), 5.0, periodic=False) for n in (1, 64, 1024)),
    Case(Structure("water", 10), 5.0, periodic=False),
    *(Case(Structure("silicon", n), 5.0, periodic=False) for n in (4, 8, 20)),
    Case(Structure("silicon", 20), 5.0, periodic=False, shuffled=True),
]
TABLES = {"neighbor lists": CRYSTALS_AND_MOLECULES, "open systems": OPEN_SYSTEMS}


def programs(case: Case) -> dict[str, Callable[[], object]]:
    systems, cutoff = case.systems(), case.cutoff
    graph = AtomicGraph.from_list([AtomicGraph.from_ase(a) for a in systems])
    kept = VerletList(cutoff)
    sorted_list, plain_list = (vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=x) for x in (True, False))
    boxed = [in_a_box(a) for a in systems]
    found: dict[str, Callable[[], object]] = {
        "atomsml": lambda: neighbor_list(graph.positions, graph.cell, graph.pbc, cutoff, graph.batch),
        "list kept": lambda: kept.update(graph),
        "torch": lambda: neighbor_list(graph.positions, graph.cell, graph.pbc, cutoff, graph.batch, "torch"),
        "vesin": lambda: [of_vesin(plain_list, a) for a in systems],
        "vesin, sorted": lambda: [of_vesin(sorted_list, a) for a in systems],
        "matscipy": lambda: [matscipy.neighbours.neighbour_list("ijS", a, cutoff) for a in boxed],
        "pymatgen": lambda: [of_pymatgen(a, cutoff) for a in boxed],
    }
    if not case.periodic:
        found |= of_torch_cluster(graph, cutoff)
    if torch.cuda.is_available():
        found["torch, GPU"] = on_gpu(graph, cutoff)
    return found


def of_torch_cluster(graph: AtomicGraph, cutoff: float) -> dict[str, Callable[[], object]]:
    from torch_cluster import radius_graph

    edge_index = graph.with_neighbors(cutoff).edge_index
    assert edge_index is not None
    room = int(torch.bincount(edge_index[1]).max()) + 1  # without it, 32 neighbours are kept and the others left out
    x, batch = graph.positions, graph.batch
    assert radius_graph(x, cutoff, batch, max_num_neighbors=room).shape == edge_index.shape
    return {
        "torch-cluster": lambda: neighbor_list(x, graph.cell, graph.pbc, cutoff, batch, "torch-cluster"),
        "radius_graph": lambda: radius_graph(x, cutoff, batch, max_num_neighbors=room),
    }


def in_a_box(atoms: ase.Atoms) -> ase.Atoms:
    """matscipy and pymatgen want a cell, also where nothing is periodic."""
    boxed = atoms.copy()
    if not boxed.pbc.any():
        boxed.center(vacuum=10.0)
    return boxed


def of_vesin(search: vesin.NeighborList, atoms: ase.Atoms) -> object:
    return search.compute(atoms.positions, atoms.cell.array, atoms.pbc, "ijS")


def of_pymatgen(atoms: ase.Atoms, cutoff: float) -> object:
    x, pbc = atoms.positions, atoms.pbc.astype(np.int64)
    receiver, sender, offsets, _ = find_points_in_spheres(x, x, cutoff, pbc, atoms.cell.array, tol=1e-8)
    others = (receiver != sender) | offsets.any(axis=1)
    return receiver[others], sender[others], offsets[others]


def on_gpu(graph: AtomicGraph, cutoff: float) -> Callable[[], object]:
    there = graph.to("cuda")

    def run() -> None:
        neighbor_list(there.positions, there.cell, there.pbc, cutoff, there.batch)
        torch.cuda.synchronize()

    return run


def race(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of a call of each; short calls are repeated within a turn."""
    repeats = {}
    for name, run in runs.items():
        for _ in range(2):  # the second call of a kept list is the first that keeps it
            run()
        start = time.perf_counter()
        run()
        repeats[name] = 1 + int(SHORTEST / (time.perf_counter() - start))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(x) for name, x in times.items()}


def row(case: Case) -> dict[str, str]:
    seconds = race(programs(case))
    cells = {name: three_digits(1e6 * x / case.structure.atoms) for name, x in seconds.items()}
    fastest = min(seconds[x] for x in PEERS if x in seconds)
    return {"": case.name, **cells, "ratio": f"{seconds['atomsml'] / fastest:.2f}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/speed.md")
    parser.add_argument("--only", nargs="+", choices=list(TABLES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only or TABLES:
        text = measure(TABLES[name])
        print(text)
        if arguments.docs:
            replace_section(DOCS / "speed.md", name, text)


def measure(cases: list[Case]) -> str:
    rows = []
    for case in cases:
        rows.append(row(case))
        print(", ".join(f"{name} {x}" for name, x in rows[-1].items()), flush=True)
    packages = ["torch", "llvmlite", "vesin", "matscipy", "pymatgen"]
    if cases is OPEN_SYSTEMS:
        packages.append("torch-cluster")
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    machine = f"{processor()}, one thread, {gpu}" + ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{machine}. Microseconds per atom of full lists (receiver, sender, cell offsets); medians of {ROUNDS} turns. "
        "*atomsml* and *torch* are the backends `cpu` and `torch` of `neighbor_list()`, sorted by receiver; *list "
        "kept* is a `VerletList` of which no pair can have come closer than the cutoff unseen; *vesin* alone is not "
        "sorted; *ratio* is atomsml to the fastest of the others.\n\n"
    ) + table(list(rows[0]), [list(x.values()) for x in rows])


if __name__ == "__main__":
    main()
