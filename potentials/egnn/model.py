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

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomsml.config import check_hyperparameters, refuse_unread
from atomsml.graph import NeighborGraph
from atomsml.nn.egnn import EGNNLayers
from atomsml.nn.linear import MLP
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential
from atomsml.potentials.egnn.paper import PaperNetwork
from atomsml.radial.bases import bessel_basis, polynomial_envelope

OURS = ("coordinate_range", "num_bessel", "envelope_power", "readout_channels")
OF_THE_PAPER = ("attention", "moves")


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
    avg_num_neighbors: float = 1.0  # messages are divided by it, but not with paper; the mean of the training set
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom
    paper: bool = False  # the network as published, whose energies jump at the cutoff; false: ours, which is smooth
    attention: bool = False  # paper: gates of messages
    moves: bool = True  # paper: whether layers move atoms; false in the experiments of the paper on QM9

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=(
                *("cutoff", "channels", "num_layers", "coordinate_range", "num_bessel", "envelope_power"),
                *("readout_channels", "avg_num_neighbors"),
            ),
            at_most={"num_layers": 16},
        )
        refuse_unread(self, OURS if self.paper else OF_THE_PAPER, f"paper {str(self.paper).lower()}")


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

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        readout = self.readout if self.paper is None else self.paper.readout
        return [next(reversed([p for p in readout.parameters() if p.ndim > 1]))]
