"""PaiNN: invariant scalars and equivariant vectors that talk to each other (Schütt et al., arXiv:2102.03150).

    x_ij = phi(s_j) * W(r_ij) = (x_s, x_vv, x_vs)                                            filters
    s_i <- s_i + sum_j x_s              v_i <- v_i + sum_j (v_j x_vv + x_vs r_ij / |r_ij|)   message
    a(s_i, |V v_i|) = (a_ss, a_sv, a_vv)
    s_i <- s_i + a_ss + a_sv <U v_i, V v_i>        v_i <- v_i + a_vv U v_i                   update

W is linear in the radial basis sin(n pi r / rc) / r and ends with a cosine cutoff: their product has two continuous
derivatives at the cutoff, since the basis vanishes there as well. The energy of an atom is read from its scalars.

| symbol | name | shape |
|---|---|---|
| s | scalars | (atoms, channels) |
| v | vectors | (atoms, 3, channels) |
| W | filters | (edges, 3 channels) |
| r_ij / abs(r_ij) | directions | (edges, 3): from atom i to its neighbour j |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomsml.config import check_hyperparameters
from atomsml.graph import NeighborGraph
from atomsml.nn.linear import UnitLinear
from atomsml.ops.convolution import Edges
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential
from atomsml.radial.bases import bessel_basis, cosine_envelope

SMALLEST_SQUARE = 1e-8  # added under the root of |V v|^2, so that it is smooth where v vanishes


@dataclass(frozen=True)
class PaiNNConfig:
    """Hyperparameters of PaiNN."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: int = 128  # scalars and vectors of an atom
    num_layers: int = 3
    num_bessel: int = 20
    readout_channels: int = 64  # hidden width of the readout
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom

    def __post_init__(self) -> None:
        positive = ("cutoff", "channels", "num_layers", "num_bessel", "readout_channels")
        check_hyperparameters(self, positive=positive, at_most={"num_layers": 16})


class PaiNN(Potential):
    """The potential; `PaiNN(PaiNNConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = PaiNNConfig
    config: PaiNNConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": 64, "readout_channels": 32},
        "medium": {},  # that of the paper
        "large": {"channels": 256, "num_layers": 6},
    }

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__(config)
        c = config.channels
        self.embedding = nn.Parameter(torch.randn(len(config.elements), c))
        self.messages = nn.ModuleList(Message(c, config.num_bessel) for _ in range(config.num_layers))
        self.updates = nn.ModuleList(Update(c) for _ in range(config.num_layers))
        self.readout = atomwise(c, config.readout_channels, 1)

    def forward(self, graph: NeighborGraph) -> Tensor:
        nodes = self.nodes(graph)
        scalars, _ = self.features(nodes, graph)
        return self.atom_energies(self.readout(scalars).squeeze(1), nodes, graph)

    def features(self, nodes: Tensor, graph: NeighborGraph) -> tuple[Tensor, Tensor]:
        """Scalars and vectors of the species `nodes`, of which the first are the atoms, after the last layer."""
        pairs = PairGeometry.from_graph(graph, self.dtype, len(nodes))
        basis = bessel_basis(pairs.lengths, self.cutoff, self.config.num_bessel)
        basis = pairs.of_edges(basis * cosine_envelope(pairs.lengths, self.cutoff)[:, None])
        directions = pairs.vectors / pairs.of_edges(pairs.lengths)[:, None]
        scalars = self.embedding[nodes]
        vectors = scalars.new_zeros(len(nodes), 3, self.config.channels)
        for message, update in zip(self.messages, self.updates, strict=True):
            scalars, vectors = message(scalars, vectors, directions, basis, pairs.edges)
            scalars, vectors = update(scalars, vectors)
        return scalars, vectors

    def hops(self) -> int:
        """One a layer."""
        return int(self.config.num_layers)

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        return [list(self.readout.parameters())[-2]]


def atomwise(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """The two-layer network phi, a and the readout."""
    return nn.Sequential(UnitLinear(width_in, hidden), nn.SiLU(), UnitLinear(hidden, width_out))


class Message(nn.Module):
    """What neighbours send, as in the module docstring."""

    def __init__(self, channels: int, num_bessel: int) -> None:
        super().__init__()
        self.phi = atomwise(channels, channels, 3 * channels)
        self.filters = UnitLinear(num_bessel, 3 * channels, bias=False)

    def forward(
        self, scalars: Tensor, vectors: Tensor, directions: Tensor, basis: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        x = self.phi(scalars)[edges.sender] * self.filters(basis)
        x_s, x_vv, x_vs = x.to(scalars.dtype).chunk(3, dim=1)
        sent = vectors[edges.sender] * x_vv[:, None] + directions[:, :, None] * x_vs[:, None]
        return scalars.index_add(0, edges.receiver, x_s), vectors.index_add(0, edges.receiver, sent)


class Update(nn.Module):
    """What an atom makes of its own scalars and vectors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.u = UnitLinear(channels, channels, bias=False)
        self.v = UnitLinear(channels, channels, bias=False)
        self.a = atomwise(2 * channels, channels, 3 * channels)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        u, v = self.u(vectors), self.v(vectors)
        lengths = torch.sqrt(v.square().sum(dim=1) + SMALLEST_SQUARE)
        a_ss, a_sv, a_vv = self.a(torch.cat([scalars, lengths], dim=1)).chunk(3, dim=1)
        return scalars + a_ss + a_sv * (u * v).sum(dim=1), vectors + a_vv[:, None] * u
