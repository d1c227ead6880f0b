"""Time of neighbour lists: the backends of atomsml beside vesin, matscipy and ASE.

    OMP_NUM_THREADS=1 python benchmarks/neighbor_lists.py

Full lists (receiver, sender, cell offsets) at a cutoff of 5 A: perturbed diamond silicon in one periodic system, then
batches of open molecules of 20 atoms. Those who know no batches are called once per molecule. Median CPU time (other
programs do not count); with a GPU the torch backend is timed there as well, in wall time.
"""

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import ase
import matscipy.neighbours
import numpy as np
import torch
import vesin
from ase.build import bulk
from ase.neighborlist import neighbor_list as ase_neighbor_list

from atomsml.neighbors import neighbor_list

CUTOFF = 5.0


def median_time(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """Median milliseconds of a call: about a second of calls, the first of them, which warms up, not counted."""
    times: list[float] = []
    while len(times) < 2 or (sum(times) < 1 and len(times) < 50):
        start = clock()
        run()
        times.append(clock() - start)
    return 1e3 * statistics.median(times[1:])


def of_atomsml(systems: list[ase.Atoms], backend: str, device: str) -> Callable[[], object]:
    positions = torch.tensor(np.concatenate([a.positions for a in systems]), device=device)
    cell = torch.tensor(np.array([a.cell.array for a in systems]), device=device)
    pbc = torch.tensor(np.array([a.pbc for a in systems]), device=device)
    batch = torch.arange(len(systems), device=device).repeat_interleave(len(systems[0]))

    def run() -> None:
        neighbor_list(positions, cell, pbc, CUTOFF, batch, backend)
        if device != "cpu":
            torch.cuda.synchronize()

    return run


def of_vesin(systems: list[ase.Atoms]) -> None:
    search = vesin.NeighborList(cutoff=CUTOFF, full_list=True, sorted=True)
    for atoms in systems:
        search.compute(atoms.positions, atoms.cell.array, atoms.pbc, "ijS")


def of_matscipy(systems: list[ase.Atoms]) -> None:
    for atoms in systems:
        matscipy.neighbours.neighbour_list("ijS", atoms, CUTOFF)


def of_ase(systems: list[ase.Atoms]) -> None:
    for atoms in systems:
        ase_neighbor_list("ijS", atoms, CUTOFF)


def row(systems: list[ase.Atoms]) -> list[float]:
    """Milliseconds, in the order of the columns."""
    times = [median_time(of_atomsml(systems, backend, "cpu"), time.process_time) for backend in ("vesin", "torch")]
    times += [median_time(lambda f=f: f(systems), time.process_time) for f in (of_vesin, of_matscipy, of_ase)]
    if torch.cuda.is_available():
        times.append(median_time(of_atomsml(systems, "torch", "cuda"), time.perf_counter))
    return times


def main() -> None:
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    cases: dict[str, list[ase.Atoms]] = {}
    for n in (1, 3, 8, 16):
        crystal = bulk("Si", cubic=True) * (n, n, n)
        crystal.rattle(0.1, rng=generator)
        cases[f"{len(crystal)} atoms Si"] = [crystal]
    for n in (32, 512):
        # matscipy wants a cell: a box well around each molecule, not periodic
        molecules = [ase.Atoms("C20", generator.uniform(20, 27, size=(20, 3)), cell=np.eye(3) * 47) for _ in range(n)]
        cases[f"{n} x 20 atoms open"] = molecules

    columns = ["atomsml vesin", "atomsml torch", "vesin", "matscipy", "ASE"]
    if torch.cuda.is_available():
        columns.append("atomsml torch GPU")
        print(torch.cuda.get_device_name())
    print(f"{platform.processor() or platform.machine()}, one thread; milliseconds")
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "vesin", "matscipy", "ase")))
    print(f"{'':22}" + "".join(f"{name:>18}" for name in columns))
    for name, systems in cases.items():
        print(f"{name:22}" + "".join(f"{t:18.2f}" for t in row(systems)), flush=True)


if __name__ == "__main__":
    main()
