"""Batches of graphs with neighbour lists, in an order that only the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from atomsml.dataset import Dataset, plan_batches
from atomsml.graph import AtomicGraph
from atomsml.training.config import BatchConfig
from atomsml.training.distributed import World
from atomsml.training.finetune import mixed_order

KEPT_ATOMS = 2_000_000  # data sets up to this size stay in memory with their neighbours: about 1 kB an atom


class Graphs(TorchDataset[AtomicGraph]):
    """Structures of a Dataset with their neighbours; found once where `keep` is set."""

    def __init__(self, dataset: Dataset, cutoff: float, keep: bool) -> None:
        self.dataset, self.cutoff, self.keep = dataset, cutoff, keep
        self._kept: dict[int, AtomicGraph] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> AtomicGraph:
        graph = self._kept.get(index)
        if graph is None:
            graph = self.dataset[index].with_neighbors(self.cutoff)
            if self.keep:
                self._kept[index] = graph
        return graph


class Loader:
    """Passes over a data set in batches; every process of `world` gets its share of each batch."""

    def __init__(
        self,
        dataset: Dataset,
        cutoff: float,
        batch: BatchConfig,
        seed: int,
        workers: int = 0,
        world: World | None = None,
        replay: Dataset | None = None,
        replay_weight: float = 0.0,
    ) -> None:
        """With `replay`, epochs mix in structures of a second data set; see `mixed_order`."""
        self.num_new, self.replay_weight = len(dataset), replay_weight
        if replay is not None:
            dataset = Dataset.concatenate([dataset, replay])
        self.dataset, self.batch, self.seed, self.workers = dataset, batch, seed, workers
        self.world = world or World()
        self._planned: tuple[int, list[np.ndarray]] = (-1, [])
        self.graphs = Graphs(dataset, cutoff, keep=workers == 0 and dataset.num_atoms.sum() <= KEPT_ATOMS)
        self.num_edges: np.ndarray | None = None
        if batch.edges is not None:  # an edge budget costs one pass over the structures
            self.num_edges = np.array([self.graphs[i].num_edges for i in range(len(dataset))])

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Indices of the structures of every batch of an epoch."""
        if self._planned[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = mixed_order(self.num_new, len(self.dataset) - self.num_new, self.replay_weight, rng)
            self._planned = (epoch, self._plan(order))
        return self._planned[1]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[AtomicGraph | None]:
        """This process's share of the batches of an epoch from number `start`; None where it has none."""
        return self._graphs(self.plan(epoch)[start:])

    def in_order(self) -> Iterator[tuple[AtomicGraph, np.ndarray]]:
        """This process's share of all structures in their order, with their indices: for evaluation."""
        plan = [part for part in self._shares(self._plan(np.arange(len(self.dataset)))) if len(part)]
        for indices in plan:
            yield AtomicGraph.from_list([self.graphs[i] for i in indices.tolist()]), indices

    def _plan(self, order: np.ndarray) -> list[np.ndarray]:
        limits = self.batch
        return plan_batches(
            order, self.dataset.num_atoms, self.num_edges, limits.structures, limits.atoms, limits.edges
        )

    def _shares(self, plan: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [indices[self.world.rank :: self.world.size] for indices in plan]

    def _graphs(self, plan: Sequence[np.ndarray]) -> Iterator[AtomicGraph | None]:
        shares = self._shares(plan)
        if self.workers == 0:
            yield from (_join([self.graphs[i] for i in indices.tolist()]) for indices in shares)
            return
        loader = DataLoader(
            self.graphs,
            batch_sampler=[indices.tolist() for indices in shares],
            collate_fn=_join,
            num_workers=self.workers,
            multiprocessing_context="spawn",  # a forked child would inherit the threads' locks
        )
        yield from loader


def _join(graphs: Sequence[AtomicGraph]) -> AtomicGraph | None:
    return AtomicGraph.from_list(graphs) if graphs else None
