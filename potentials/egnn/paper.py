"""EGNN's network as its authors wrote it (Satorras et al., arXiv:2102.09844), for energies.

    h_i = W_in onehot(element) + b_in,    layers of `atomsml.nn.egnn_paper`,    w_out . h_i + b_out

Lengths are in Angstrom. Every atom within the cutoff counts the same, at whatever distance: a cutoff beyond the largest
distance makes the fully connected molecules of the paper, a shorter one an energy that jumps where an atom crosses it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import one_hot

from atomsml.graph import NeighborGraph
from atomsml.nn.egnn_paper import PaperEGNNLayers
from atomsml.nn.linear import UnitLinear
from atomsml.ops.convolution import Edges
from atomsml.potentials.egnn.config import EGNNConfig


class PaperNetwork(nn.Module):
    """The equation of the module docstring, of an `EGNNConfig`.

    The last layer does not move atoms: that would change nothing that is read.
    """

    def __init__(self, config: EGNNConfig) -> None:
        super().__init__()
        self.num_elements = len(config.elements)
        self.embedding = UnitLinear(self.num_elements, config.channels)
        self.layers = PaperEGNNLayers(
            config.channels,
            config.num_layers,
            attention=config.attention,
            moves=config.moves,
            moves_last=False,
            linear=UnitLinear,
        )
        self.readout = UnitLinear(config.channels, 1)

    def forward(self, nodes: Tensor, graph: NeighborGraph) -> Tensor:
        """(nodes,) outputs for elements `nodes` (nodes,), of which the first are the atoms of the graph."""
        features = self.embedding(one_hot(nodes, self.num_elements).to(self.readout.weight.dtype))
        vectors = graph.edge_vectors().to(features.dtype)
        edges = Edges.from_index(graph.edge_index, len(nodes))
        features, _ = self.layers(features, vectors, vectors.new_zeros(len(vectors), 0), edges)
        outputs: Tensor = self.readout(features).squeeze(1)
        return outputs
