"""EGNN: a potential of invariant messages between atoms that move (Satorras et al., arXiv:2102.09844).

The layers are those of `atomsml.nn.egnn`. Here an edge is known by its length in Bessel functions, next to the distance
of its displaced ends, and the envelope of the length multiplies all that it sends, so that energies are smooth at the
cutoff. Lengths enter in units of the cutoff. The energy of an atom is read from its features after the last layer.

| symbol | name | shape |
|---|---|---|
| h | features | (atoms, channels) |
| x_j - x_i | vectors | (edges, 3) |
| a | basis | (edges, num_bessel) |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomsml.config import check_hyperparameters
from atomsml.graph import NeighborGraph
from atomsml.nn.egnn import EGNNLayers
from atomsml.nn.linear import MLP
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential
from atomsml.radial.bases import bessel_basis, polynomial_envelope


@dataclass(frozen=True)
class EGNNConfig:
    """Hyperparameters of EGNN."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: int = 128  # of features and messages
    num_layers: int = 4
    coordinate_range: float = 1.0  # how strongly neighbours move an atom, in units of the cutoff
    num_bessel: int = 8
    envelope_power: int = 5  # p of the polynomial envelope
    readout_channels: int = 64  # hidden width of the readout
    avg_num_neighbors: float = 1.0  # messages are divided by it; take the mean of the training set
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=(
                *("cutoff", "channels", "num_layers", "coordinate_range", "num_bessel", "envelope_power"),
                *("readout_channels", "avg_num_neighbors"),
            ),
            at_most={"num_layers": 16},
        )


class EGNN(Potential):
    """The potential; `EGNN(EGNNConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = EGNNConfig
    config: EGNNConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": 64, "num_layers": 3},
        "medium": {},
        "large": {"channels": 256, "num_layers": 6},
    }

    def __init__(self, config: EGNNConfig) -> None:
        super().__init__(config)
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
        pairs = PairGeometry.from_graph(graph, self.dtype, len(nodes))
        basis = bessel_basis(pairs.lengths, self.cutoff, self.config.num_bessel)
        envelope = polynomial_envelope(pairs.lengths, self.cutoff, self.config.envelope_power)
        attributes, weights = pairs.of_edges(basis), pairs.of_edges(envelope)
        vectors = pairs.vectors / self.cutoff
        features, _ = self.layers(self.embedding[nodes], vectors, attributes, weights, pairs.edges)
        return self.atom_energies(self.readout(features).squeeze(1), nodes, graph)

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        return [list(self.readout.parameters())[-1]]
