"""PairGeometry: what a network asks of the edges of a graph, and of the pairs of atoms that they connect.

Sender to receiver and receiver to sender are the two directions of one pair: what depends on the distance alone, such
as radial functions, is computed once for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.graph import NeighborGraph
from atomsml.ops.convolution import Edges, edge_pairs


@dataclass(frozen=True)
class PairGeometry:
    """Vectors of edges and lengths of pairs, in the type of a network; differentiable by positions and cell."""

    edges: Edges  # sorted by receiver; `weight_row` says to which pair each belongs
    vectors: Tensor  # (edges, 3) A, from the centre to the neighbour
    lengths: Tensor  # (pairs,) A
    first: Tensor  # (pairs,) an edge of each pair

    @classmethod
    def from_graph(cls, graph: NeighborGraph, dtype: torch.dtype, num_nodes: int | None = None) -> PairGeometry:
        """Of a network of type `dtype` that runs over `num_nodes` nodes, of which the first are the atoms.

        Raises:
            ValueError: a graph without a neighbour list.
        """
        vectors = graph.edge_vectors()
        pair, first = edge_pairs(graph.edge_index, graph.cell_offsets)
        return cls(
            edges=Edges.from_index(graph.edge_index, graph.num_atoms if num_nodes is None else num_nodes, pair),
            vectors=vectors.to(dtype),
            lengths=torch.linalg.vector_norm(vectors[first], dim=1).to(dtype),
            first=first,
        )

    def of_edges(self, values: Tensor) -> Tensor:
        """(edges, ...) values (pairs, ...) of the pair of each edge."""
        return values.index_select(0, self.edges.weight_row)

    def ends(self, values: Tensor) -> Tensor:
        """(2, pairs, ...) values (nodes, ...) of the two atoms of each pair."""
        return values[torch.stack([self.edges.sender[self.first], self.edges.receiver[self.first]])]
