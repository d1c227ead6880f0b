"""GraphSet: graphs for training, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from atomsml.generative.core.set import SampleSet
from atomsml.generative.graphs.graphs import MolecularGraphs


@dataclass(frozen=True)
class GraphSet(SampleSet[MolecularGraphs]):
    """Graphs as small integers, padded to the largest; `warnings` says what is odd about them."""

    graphs: MolecularGraphs  # int8
    names: np.ndarray  # (graphs,) uint64: hashes of their canonical SMILES, without stereochemistry
    warnings: tuple[str, ...] = ()
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)  # none

    @staticmethod
    def concatenate(parts: Sequence[GraphSet]) -> GraphSet:
        return GraphSet(
            MolecularGraphs.concatenate([part.graphs for part in parts]),
            np.concatenate([part.names for part in parts]),
            tuple(warning for part in parts for warning in part.warnings),
        )

    @property
    def sizes(self) -> np.ndarray:
        sizes: np.ndarray = self.graphs.sizes.numpy()
        return sizes

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers, ascending."""
        return tuple(torch.unique(self.graphs.numbers[self.graphs.mask]).tolist())

    def kinds(self) -> list[np.ndarray]:
        """(atoms, 5) the kinds of the atoms of each graph, as in kinds.py."""
        graphs = self.graphs
        bonds = graphs.bonds.sum(dim=2), (graphs.bonds > 0).sum(dim=2)
        columns = graphs.numbers, graphs.charges, graphs.hydrogens, *bonds
        table = torch.stack([column.long() for column in columns], dim=2).numpy()
        return [row[:size] for row, size in zip(table, self.sizes.tolist(), strict=True)]

    def hashes(self) -> np.ndarray:
        return self.names

    def subset(self, rows: np.ndarray) -> GraphSet:
        return GraphSet(self.graphs.select(torch.from_numpy(rows)), self.names[rows])

    def batch(self, rows: np.ndarray, conditions: Sequence[str] = ()) -> MolecularGraphs:
        return self.graphs.select(torch.from_numpy(rows)).to(torch.int64)

    def describe(self) -> str:
        return f"{len(self):,} graphs of {self.sizes.min()} to {self.sizes.max()} heavy atoms"
