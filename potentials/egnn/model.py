"""EGNN: a potential of invariant messages between atoms that move (Satorras et al., arXiv:2102.09844).

The layers are those of `atomsml.nn.egnn`. Here an edge is known by its length in Bessel functions, next to the distance
of its displaced ends, and the envelope of the length multiplies all that it sends, so that energies are smooth at the
cutoff. Lengths enter in units of the cutoff. The energy of an atom is read from its features after the last layer.
With `paper` the network is that of `paper.py`, as published: its energies jump at the cutoff.

| symbol | name | shape |
|---|---|---|
| h | features | (atoms, channels) |
| x_j - x_i | vectors | (edges, 3) |
| a | basis | (edges, num_bessel) |
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomsml.graph import NeighborGraph
from atomsml.nn.egnn import EGNNLayers
from atomsml.nn.linear import MLP
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential
from atomsml.potentials.egnn.config import EGNNConfig
from atomsml.potentials.egnn.paper import PaperNetwork
from atomsml.radial.bases import bessel_basis, polynomial_envelope


class EGNN(Potential):
    """The potential; `EGNN(EGNNConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = EGNNConfig
    config: EGNNConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": 64, "num_layers": 3},
        "medium": {},
        "large": {"channels": 256, "num_layers": 6},
        # for QM9, whose molecules are fully connected
        "paper": {"paper": True, "channels": 128, "num_layers": 7, "attention": True, "moves": False, "cutoff": 20.0},
    }

    def __init__(self, config: EGNNConfig) -> None:
        super().__init__(config)
        self.jumps_at_cutoff = config.paper
        self.paper = PaperNetwork(config) if config.paper else None
        if config.paper:
            return
        self.embedding = nn.Parameter(torch.randn(len(config.elements), config.channels))
        self.layers = EGNNLayers(
            config.channels,
            num_attributes=config.num_bessel,
            num_layers=config.num_layers,
            avg_num_neighbors=config.avg_num_neighbors,
            coordinate_range=config.coordinate_range,
            moves_last=False,
        )
        self.readout = MLP((config.channels, config.readout_channels, 1))

    def forward(self, graph: NeighborGraph) -> Tensor:
        nodes = self.nodes(graph)
        network = self._network(nodes, graph) if self.paper is None else self.paper(nodes, graph)
        return self.atom_energies(network, nodes, graph)

    def _network(self, nodes: Tensor, graph: NeighborGraph) -> Tensor:
        pairs = PairGeometry.from_graph(graph, self.dtype, len(nodes))
        basis = bessel_basis(pairs.lengths, self.cutoff, self.config.num_bessel)
        envelope = polynomial_envelope(pairs.lengths, self.cutoff, self.config.envelope_power)
        attributes, weights = pairs.of_edges(basis), pairs.of_edges(envelope)
        vectors = pairs.vectors / self.cutoff
        features, _ = self.layers(self.embedding[nodes], vectors, attributes, weights, pairs.edges)
        energies: Tensor = self.readout(features).squeeze(1)
        return energies

    def hops(self) -> int:
        """One a layer."""
        return int(self.config.num_layers)

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        readout = self.readout if self.paper is None else self.paper.readout
        return [next(reversed([p for p in readout.parameters() if p.ndim > 1]))]
