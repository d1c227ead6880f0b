"""eSCN: messages by rotations about edges alone (S. Passaro and C. L. Zitnick, ICML 2023, arXiv:2302.03655).

A message turns the features of an edge's two atoms into the frame of the edge, where all that commutes with rotations
about the edge may act: linear maps for each order m (atomsml/ops/so2.py) that hold the radial functions, a
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

What differs from the paper: forces are the gradient of the energy unless `direct_forces`; nonlinearities at the points
of a grid, which are equivariant up to its error, gave way to gates in the frame of the edge and to exact polynomials;
matrices keep mirror symmetry unless `parity` is off; sender and receiver are mixed before they are turned; radial
functions end smoothly at the cutoff; atoms start with their neighbours around them, not as their element alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomsml.config import check_hyperparameters
from atomsml.graph import AtomicGraph, NeighborGraph
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
from atomsml.radial.bases import bessel_basis, polynomial_envelope


@dataclass(frozen=True)
class ESCNConfig:
    """Hyperparameters of eSCN."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: int = 64  # multiplicity of every degree of the features of atoms
    hidden_channels: int = 64  # the same of messages, and of the products of an update
    lmax: int = 3  # highest degree of features and messages
    mmax: int = 2  # highest order |m| about its edge that a message keeps
    num_layers: int = 2
    num_bessel: int = 8
    envelope_power: int = 5  # p of the polynomial envelope
    radial_mlp: tuple[int, ...] = (64,)  # hidden widths of the radial networks
    unit_basis: bool = False  # Bessel functions of unit mean square for radial networks; False: files of version 0.1
    readout_channels: int = 16  # hidden width of the readout
    avg_num_neighbors: float = 1.0  # messages are divided by it; take the mean of the training set
    parity: bool = True  # False: matrices that mix +m and -m as in the paper, blind to mirror symmetry
    direct_forces: bool = False  # forces of a head of their own, which are not the gradient of the energy: MD drifts
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=(
                "cutoff", "channels", "hidden_channels", "num_layers", "num_bessel", "readout_channels",
                "avg_num_neighbors",
            ),
            at_most={"lmax": 8, "num_layers": 32},
        )  # fmt: skip
        if not 0 <= self.mmax <= self.lmax:
            raise ValueError(f"mmax must lie in 0..lmax = {self.lmax}, got {self.mmax}")
        if self.direct_forces and self.lmax < 1:
            raise ValueError("direct_forces are read from features of degree 1: give lmax >= 1")


class ESCN(Potential):
    """The potential; `ESCN(ESCNConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = ESCNConfig
    config: ESCNConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": 32, "hidden_channels": 32, "lmax": 2, "radial_mlp": (32,), "unit_basis": True},
        "medium": {"unit_basis": True},
        "large": {"channels": 128, "hidden_channels": 64, "lmax": 4, "num_layers": 4, "unit_basis": True},
    }

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__(config)
        self.direct_forces = config.direct_forces
        self.start = NeighborhoodEmbedding(config)
        self.layers = nn.ModuleList(ESCNLayer(config) for _ in range(config.num_layers))
        self.readout = MLP((config.channels, config.readout_channels, 1))
        if config.direct_forces:
            self.force_head = ForceHead(config)

    def forward(self, graph: NeighborGraph) -> Tensor:
        nodes = self.nodes(graph)
        return self._energies(self.features(nodes, self.surroundings(nodes, graph)), nodes, graph)

    def forward_with_forces(self, graph: NeighborGraph) -> tuple[Tensor, Tensor]:
        nodes = self.nodes(graph)
        surroundings = self.surroundings(nodes, graph)
        features = self.features(nodes, surroundings)
        forces = self.config.scale * self.force_head(features, surroundings)[: graph.num_atoms]
        return self._energies(features, nodes, graph), forces.to(graph.dtype)

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        return [list(self.readout.parameters())[-1]]

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

    def _energies(self, features: Tensor, nodes: Tensor, graph: AtomicGraph) -> Tensor:
        return self.atom_energies(self.readout(features[:, 0]).squeeze(1), nodes, graph)


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
