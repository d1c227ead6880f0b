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


class Graphs:
    """Structures of a Dataset with their neighbours; found once where `keep` is set."""

    def __init__(self, dataset: Dataset, cutoff: float, keep: bool) -> None:
        self.dataset, self.cutoff, self.keep = dataset, cutoff, keep
        self._kept: dict[int, AtomicGraph] = {}

    def __getitem__(self, index: int) -> AtomicGraph:
        graph = self._kept.get(index)
        if graph is None:
            graph = self.dataset[index].with_neighbors(self.cutoff)
            if self.keep:
                self._kept[index] = graph
        return graph

    def batch(self, indices: np.ndarray) -> AtomicGraph | None:
        """These structures as one graph; None for none."""
        if len(indices) == 0:
            return None
        if self.keep:
            return AtomicGraph.from_list([self[i] for i in indices.tolist()])
        return self.dataset.batch(indices).with_neighbors(self.cutoff)  # one read, one search


class _Batches(TorchDataset[AtomicGraph | None]):
    """Batches by their number, as torch's DataLoader asks for them in its worker processes."""

    def __init__(self, graphs: Graphs, plan: Sequence[np.ndarray]) -> None:
        self.graphs, self.plan = graphs, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> AtomicGraph | None:
        return self.graphs.batch(self.plan[number])


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
        return self._graphs(self._shares(self.plan(epoch)[start:]))

    def in_order(self) -> Iterator[tuple[AtomicGraph, np.ndarray]]:
        """This process's share of all structures in their order, with their indices: for evaluation."""
        shares = [share for share in self._shares(self._plan(np.arange(len(self.dataset)))) if len(share)]
        for graph, indices in zip(self._graphs(shares), shares, strict=True):
            assert graph is not None  # no share is empty
            yield graph, indices

    def _plan(self, order: np.ndarray) -> list[np.ndarray]:
        limits = self.batch
        return plan_batches(
            order, self.dataset.num_atoms, self.num_edges, limits.structures, limits.atoms, limits.edges
        )

    def _shares(self, plan: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [indices[self.world.rank :: self.world.size] for indices in plan]

    def _graphs(self, shares: Sequence[np.ndarray]) -> Iterator[AtomicGraph | None]:
        if self.workers == 0:
            yield from map(self.graphs.batch, shares)
            return
        yield from DataLoader(
            _Batches(self.graphs, shares),
            batch_size=None,
            num_workers=self.workers,
            multiprocessing_context="spawn",  # a forked child would inherit the threads' locks
        )
