"""A million labelled structures in one HDF5 file: memory, time and size of writing it, and how fast it is read.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.dataset_million [--structures 1000000] [--folder .]

The structures are synthetic: 8 to 16 atoms (H, C, N, O) at random places with four decimals, with random energies and
forces, in 10,000 groups. They are made and written some thousand at a time. Then batches of 64 are read in shuffled
order as a training run does it, by a torch DataLoader with 0 and with 2 workers. Times are wall times; in brackets CPU
seconds, which other programs on the machine do not change. Peak memory is that of this process since its start; what
the imports alone need is printed first.
"""

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader

from atomsml.dataset import Columns, Dataset, plan_batches, read_dataset, split
from atomsml.dataset.formats.storage import write_dataset
from atomsml.graph import AtomicGraph

BLOCK = 5000  # structures made at a time
READ, SINGLE = 16_000, 1_000  # structures that are read for a rate
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to write; by default a temporary folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} {platform.machine()} cores, torch {torch.__version__}, h5py {h5py.__version__}")
    print(f"imports: peak {peak_memory()}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "million.h5"
        watch = Stopwatch()
        written = write_dataset(path, synthetic(arguments.structures))
        size = path.stat().st_size
        print(
            f"write {written:,} structures: {watch.read()}, {size / 1e6:.0f} MB on disk, {size / written:.0f} bytes "
            f"each, peak {peak_memory()}"
        )
        watch = Stopwatch()
        dataset = read_dataset(path)
        print(f"open: {watch.read()}, {dataset.num_atoms.sum():,} atoms, peak {peak_memory()}")
        watch = Stopwatch()
        sizes = {name: len(part) for name, part in split(dataset, {"train": 0.95, "valid": 0.05}).items()}
        print(f"split by content {sizes}: {watch.read()}, peak {peak_memory()}")
        rates(dataset)


def synthetic(structures: int) -> Iterator[Columns]:
    """Random structures, some at a time."""
    rng = np.random.default_rng(0)
    for start in range(0, structures, BLOCK):
        count = min(BLOCK, structures - start)
        num_atoms = rng.integers(8, 17, count)
        atoms = int(num_atoms.sum())
        yield Columns(
            num_atoms=num_atoms,
            numbers=rng.choice(np.array([1, 1, 1, 6, 6, 7, 8], dtype=np.uint8), atoms),
            positions=rng.normal(scale=2.0, size=(atoms, 3)).round(4),
            forces=rng.normal(size=(atoms, 3)).round(4),
            cell=np.zeros((count, 3, 3)),
            pbc=np.zeros((count, 3), dtype=bool),
            energy=rng.normal(size=count) * num_atoms,
            stress=np.full((count, 3, 3), np.nan),
            config_types=np.full(count, "synthetic", dtype=object),
            groups=np.array([f"molecule {i}" for i in rng.integers(10_000, size=count)], dtype=object),
        )


class Stopwatch:
    """Wall time, and CPU time of this process and of those that it waited for."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), self._cpu()

    def read(self, count: int = 0) -> str:
        """The times, and with a count also the rates."""
        wall, cpu = time.perf_counter() - self.wall, self._cpu() - self.cpu
        rate = f", {count / wall:,.0f} ({count / cpu:,.0f}) structures/s" if count else ""
        return f"{wall:.2f} s ({cpu:.2f}){rate}"

    def _cpu(self) -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system


def rates(dataset: Dataset) -> None:
    """Structures a second one after the other, and in batches, shuffled and in order."""
    shuffled = np.random.default_rng(1).permutation(len(dataset))[:READ]
    watch = Stopwatch()
    for i in shuffled[:SINGLE].tolist():
        dataset[i]
    print(f"read one by one, anywhere: {watch.read(SINGLE)}")
    for name, order in (("shuffled", shuffled), ("in order", np.arange(min(READ, len(dataset))))):
        batches = [batch.tolist() for batch in plan_batches(order, dataset.num_atoms, max_structures=BATCH)]
        for workers in (0, 2):
            loader = DataLoader(
                dataset,  # type: ignore[arg-type]  # indices and length are all that it asks for
                batch_sampler=batches,
                num_workers=workers,
                collate_fn=AtomicGraph.from_list,
            )
            watch = Stopwatch()
            read = sum(graph.num_systems for graph in loader)
            print(f"batches of {BATCH}, {name}, {workers} workers: {watch.read(read)}")
    print(f"at the end: peak {peak_memory()}")


def peak_memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"


if __name__ == "__main__":
    main()
