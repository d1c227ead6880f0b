"""eSCN: messages by rotations about edges alone (S. Passaro and C. L. Zitnick, ICML 2023, arXiv:2302.03655).

A message turns the features of an edge's two atoms into the frame of the edge, where all that commutes with rotations
about the edge may act: linear maps for each order m (atomsml/nn/so2.py) that hold the radial functions, a
nonlinearity between two of them, and |m| > mmax is left out. Turned back, messages are summed, and a point-wise network
on the sphere (atomsml/nn/sphere.py) updates the features of each atom. With every m kept, one such linear map is the
full tensor product with the harmonics of the edge.

    x_i = a_i + U(a_i),    a_i = e_i + W sum_j R(r_ij) Y(r_ij) e_j / n        first features
    m_i = sum_j D_ij^T L2 gate(L1 S(r_ij) D_ij (W_s x_j + W_r x_i)) / n       message
    x_i <- x_i + U(x_i, m_i)                                                  layer

| symbol | name | shape |
|---|---|---|
| x | features | (nodes, (lmax + 1)^2, channels) |
| e | embedding | (elements, channels) |
| R, Y | radial functions and spherical harmonics of an edge | |
| D | frames: the Wigner matrix of an edge, without its rows of abs(m) > mmax | |
| S | scales: radial functions of a pair, times the envelope | (pairs, pairs (l, m >= 0), hidden_channels) |
| L1, L2 | first, second | SO(2) linear maps |
| U | update, a GridMLP | |
| n | avg_num_neighbors | |

With `paper` the network is that of `paper.py`, as published, which jumps at the cutoff and is equivariant up to the
error of its grids. How the two differ, and why: docs/faithful.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomsml.graph import NeighborGraph
from atomsml.nn.edge_frame import EdgeFrames, edge_components
from atomsml.nn.linear import MLP, IrrepLinear
from atomsml.nn.so2 import SO2Linear
from atomsml.nn.sphere import GridMLP
from atomsml.o3 import spherical_harmonics
from atomsml.o3.s2_grid import all_components
from atomsml.ops.convolution import Edges, convolution_table, convolve
from atomsml.ops.edge_gate import gate
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential
from atomsml.potentials.escn.config import ESCNConfig
from atomsml.potentials.escn.paper import PaperNetwork
from atomsml.radial.bases import bessel_basis, polynomial_envelope


class ESCN(Potential):
    """The potential; `ESCN(ESCNConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = ESCNConfig
    config: ESCNConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": 32, "hidden_channels": 32, "lmax": 2, "radial_mlp": (32,), "unit_basis": True},
        "medium": {"unit_basis": True},
        "large": {"channels": 128, "hidden_channels": 64, "lmax": 4, "num_layers": 4, "unit_basis": True},
        "paper": {  # L6, M2, 12 layers for OC20, where of the neighbours only the nearest 20 are taken
            **{"paper": True, "direct_forces": True, "cutoff": 12.0, "num_gaussians": 600, "gaussian_width": 2.0},
            **{"channels": 128, "hidden_channels": 256, "radial_mlp": (128,), "lmax": 6, "num_layers": 12},
        },
    }

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__(config)
        self.direct_forces, self.jumps_at_cutoff = config.direct_forces, config.paper
        self.paper = PaperNetwork(config) if config.paper else None
        if config.paper:
            return
        self.start = NeighborhoodEmbedding(config)
        self.layers = nn.ModuleList(ESCNLayer(config) for _ in range(config.num_layers))
        self.readout = MLP((config.channels, config.readout_channels, 1))
        if config.direct_forces:
            self.force_head = ForceHead(config)

    def forward(self, graph: NeighborGraph) -> Tensor:
        nodes = self.nodes(graph)
        if self.paper is not None:
            network = self.paper.energies(self.paper(nodes, graph))
        else:
            network = self._network(self.features(nodes, self.surroundings(nodes, graph)))
        return self.atom_energies(network, nodes, graph)

    def forward_with_forces(self, graph: NeighborGraph) -> tuple[Tensor, Tensor]:
        nodes = self.nodes(graph)
        if self.paper is not None:
            features = self.paper(nodes, graph)
            network, forces = self.paper.energies(features), self.paper.forces(features)
            forces = forces - forces[graph.num_atoms :][nodes]  # an isolated atom has none
        else:
            surroundings = self.surroundings(nodes, graph)
            features = self.features(nodes, surroundings)
            network, forces = self._network(features), self.force_head(features, surroundings)
        forces = self.config.scale * forces[: graph.num_atoms]
        return self.atom_energies(network, nodes, graph), forces.to(graph.dtype)

    def hops(self) -> int:
        """One a layer, and one before them, where each atom is told of its neighbours."""
        return int(self.config.num_layers) + 1

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        readout = self.readout if self.paper is None else self.paper.energy
        return [list(readout.parameters())[-1]]

    def surroundings(self, nodes: Tensor, graph: NeighborGraph) -> Surroundings:
        """What layers need of a graph; `nodes` are those of `Potential.nodes`."""
        config, pairs = self.config, PairGeometry.from_graph(graph, self.dtype, len(nodes))
        envelope = polynomial_envelope(pairs.lengths, config.cutoff, config.envelope_power)
        basis = bessel_basis(pairs.lengths, config.cutoff, config.num_bessel)
        if config.unit_basis:
            basis = basis * math.sqrt(config.cutoff**3 / 3)
        ending = basis * envelope[:, None]
        return Surroundings(
            edges=pairs.edges,
            species=pairs.ends(nodes),
            vectors=pairs.vectors,
            frames=EdgeFrames.from_vectors(pairs.vectors, config.lmax, config.mmax),
            basis=basis if config.unit_basis else ending,
            ending=ending,
            envelope=envelope,
        )

    def features(self, nodes: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) after the last layer."""
        features: Tensor = self.start(nodes, surroundings)
        for layer in self.layers:
            features = layer(features, surroundings)
        return features

    def _network(self, features: Tensor) -> Tensor:
        energies: Tensor = self.readout(features[:, 0]).squeeze(1)
        return energies


@dataclass(frozen=True)
class Surroundings:
    """What layers know of the neighbours of atoms."""

    edges: Edges  # weight_row: the pair of an edge
    species: Tensor  # (2, pairs)
    vectors: Tensor  # (edges, 3) A
    frames: EdgeFrames
    basis: Tensor  # (pairs, num_bessel)
    ending: Tensor  # the same times the envelope
    envelope: Tensor  # (pairs,)


class NeighborhoodEmbedding(nn.Module):
    """The first features: what element an atom is, and which elements are where around it.

    They depend on harmonics alone, for which no frame is needed.
    """

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        self.table = convolution_table(0, config.lmax, config.lmax)
        self.embedding = nn.Parameter(torch.randn(len(config.elements), c))
        self.radial = MLP((config.num_bessel, *config.radial_mlp, (config.lmax + 1) * c))
        self.linear = IrrepLinear([c] * (config.lmax + 1), c)
        self.update = GridMLP(all_components(config.lmax), c, config.hidden_channels, c)

    def forward(self, nodes: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes,) species -> (nodes, (lmax + 1)^2, channels)."""
        scalars = self.embedding[nodes][:, None]
        harmonics = spherical_harmonics(self.config.lmax, surroundings.vectors)
        weights = self.radial(surroundings.ending).unflatten(1, (self.config.lmax + 1, -1))
        neighbors = convolve(scalars, harmonics, weights, surroundings.edges, self.table)
        message = self.linear(neighbors, 1 / self.config.avg_num_neighbors)
        features = nn.functional.pad(scalars, (0, 0, 0, message.shape[1] - 1)) + message
        updated: Tensor = features + self.update(features)
        return updated


class ESCNLayer(nn.Module):
    """One message to every atom, and the update of its features."""

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        c, h, components = config.channels, config.hidden_channels, edge_components(config.lmax, config.mmax)
        self.config = config
        self.degrees = tuple(l for l, _ in components)
        self.mix = nn.Parameter(torch.randn(c, 2 * h))
        self.first = SO2Linear(h, h, config.lmax, config.mmax, config.parity)
        self.second = SO2Linear(h, c, config.lmax, config.mmax, config.parity)
        self.radial = PairRadial(config, self.first.num_scales * h)
        self.update = GridMLP(all_components(config.lmax), 2 * c, h, c)

    def forward(self, features: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) -> the same."""
        message = self.message(features, surroundings)
        updated: Tensor = features + self.update(torch.cat([features, message], dim=2))
        return updated

    def message(self, features: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) -> the same: what the neighbours of each atom tell it."""
        edges, frames = surroundings.edges, surroundings.frames
        mixed = features @ (self.mix / math.sqrt(len(self.mix)))
        of_both = torch.cat(mixed.chunk(2, dim=2))  # as senders, then as receivers
        index = torch.stack([edges.sender, edges.receiver + len(features)])
        scales = self.radial(surroundings).unflatten(1, (self.first.num_scales, -1))
        hidden = self.first(frames.rotate_in(of_both, index), scales, edges.weight_row)
        message = self.second(gate(hidden, self.degrees))
        return frames.rotate_out(message, edges.receiver, len(features)) / self.config.avg_num_neighbors


class PairRadial(nn.Module):
    """Functions of the distance and the two elements of a pair, in either order, which vanish at the cutoff.

        u(r) network( sqrt(rc^3 / 3) b(r), (e_i + e_j) / sqrt(2) ),        b: Bessel functions, u: envelope

    The factor gives b, which are orthonormal in the sphere of the cutoff, a mean square of 1 there: as much as that of
    the elements e. Without it, and with the envelope before the network as well, the elements outweigh the distance a
    hundred times in metals, whose atoms have no neighbour below 2.5 A: the network begins as a constant.
    """

    def __init__(self, config: ESCNConfig, num: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(len(config.elements), config.num_bessel))
        self.network = MLP((2 * config.num_bessel, *config.radial_mlp, num))

    def forward(self, surroundings: Surroundings) -> Tensor:
        """(pairs, num)."""
        elements = self.embedding[surroundings.species].sum(dim=0) / math.sqrt(2)
        functions: Tensor = self.network(torch.cat([surroundings.basis, elements], dim=1))
        return functions * surroundings.envelope[:, None]


class ForceHead(nn.Module):
    """Forces from features: each atom gives its neighbours what it takes.

        F_i = sum_j w(r_ij) (v_i - v_j) / n,        v the components of degree 1 of a GridMLP

    They rotate as vectors do, vanish for an atom that leaves all others, and sum to zero in every part of a system that
    is out of reach of the rest, as the true forces do: no molecule pushes itself. To subtract the mean of all forces
    instead would let far atoms push each other. Energy is not conserved.
    """

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        self.config = config
        self.network = GridMLP(all_components(config.lmax), config.channels, config.hidden_channels, 1)

    def forward(self, features: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) -> (nodes, 3)."""
        edges = surroundings.edges
        vectors = self.network(features)[:, 1:4, 0]  # x, y, z
        weights = (surroundings.envelope / self.config.avg_num_neighbors)[edges.weight_row, None]
        differences = weights * (vectors[edges.receiver] - vectors[edges.sender])
        return torch.zeros_like(vectors).index_add(0, edges.receiver, differences)
