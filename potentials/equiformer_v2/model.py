"""EquiformerV2: a graph transformer whose messages are made in the frames of edges (Liao et al., arXiv:2306.12059).

Each block adds graph attention and a feed-forward network to the features of atoms, both after a norm:

    x <- x + attention(norm(x)),    x <- x + feed_forward(norm(x)).

On the edge from neighbour j to centre i, with D the rotation that takes the edge to the polar axis (sections 3, 4):

    f = SO2(R(r) * D (W_s x_j + W_r x_i))           R(r) scales each degree, order and channel
    z = W leaky(layer_norm(f_00))                   a logit per head from the invariants: attention re-normalisation
    a = u(r) exp(z) / (1 + sum_j u(r) exp(z))       attention
    x_i' = W' sum_j D^T (a * SO2(S2(f)))            S2: separable activation on the sphere; heads share out channels

| symbol | name | shape |
|---|---|---|
| x | features | (nodes, (lmax + 1)^2, channels) |
| f | hidden messages | (edges, rows of `edge_components`, attention_channels) |
| z, a | logits, attention | (edges, heads) |
| u | envelope | (edges,) |
| R | radial scales | (edges, scales, attention_channels): equal in both directions of a pair of atoms |

With `paper` the network is that of `paper.py`, as published. Here it has changed, for the energy to be smooth and
exactly invariant: there the softmax is without u and without the 1 in the sum, so that neighbours jump in and out at
the cutoff, and activations apply SiLU at points of a grid, which is equivariant up to the error of the grid. For speed:
there the channels of x_j and x_i are joined, which doubles what is to be rotated and mapped, radial functions know the
elements of both atoms, and logits come from invariants of their own. Here the features bring the elements, and f_00
serves both.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomsml.graph import NeighborGraph
from atomsml.nn.edge_frame import EdgeFrames
from atomsml.nn.linear import MLP, IrrepLinear, irrep_blocks
from atomsml.nn.norm import SeparableLayerNorm
from atomsml.nn.so2 import SO2Linear
from atomsml.nn.sphere import GridMLP
from atomsml.o3 import spherical_harmonics
from atomsml.o3.s2_grid import Components, all_components
from atomsml.ops.activation import SILU_GAIN, silu
from atomsml.ops.convolution import Edges, convolution_table, convolve
from atomsml.ops.grid_product import grid_product
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential
from atomsml.potentials.equiformer_v2.config import EquiformerV2Config
from atomsml.potentials.equiformer_v2.paper import PaperNetwork
from atomsml.radial.bases import bessel_basis, polynomial_envelope

# the published model for OC20 with 31 million weights; that of 153 million has lmax 6, mmax 3 and 20 layers
PAPER: dict[str, Any] = {
    **{"lmax": 4, "mmax": 2, "num_layers": 8},
    **{"paper": True, "cutoff": 12.0, "channels": 128, "num_heads": 8, "attention_channels": 64, "alpha_channels": 64},
    **{"value_channels": 16, "ffn_channels": 128, "radial_mlp": (128, 128), "readout_channels": 128},
    **{"grid_resolution": 18, "attention_dropout": 0.1, "drop_path": 0.1},
}
EPSILON = 0.01  # of norms: features below its root, 0.1, are small; see SeparableLayerNorm


class EquiformerV2(Potential):
    """The potential; `EquiformerV2(EquiformerV2Config(elements=(1, 6, 8)))` has random weights."""

    Config = EquiformerV2Config
    config: EquiformerV2Config
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": 32, "lmax": 2, "num_layers": 2, "attention_channels": 32, "ffn_channels": 64,
                  "radial_mlp": (32,), "readout_channels": 32},
        "medium": {},
        "large": {"channels": 128, "lmax": 4, "num_layers": 6, "num_heads": 8, "attention_channels": 128,
                  "ffn_channels": 256},
        "paper": PAPER,
    }  # fmt: skip

    def __init__(self, config: EquiformerV2Config) -> None:
        super().__init__(config)
        self.direct_forces, self.jumps_at_cutoff = config.direct_forces, config.paper
        self.paper = PaperNetwork(config) if config.paper else None
        if config.paper:
            return
        self.embedding = nn.Parameter(torch.randn(len(config.elements), config.channels))
        self.neighbor_embedding = NeighborEmbedding(config)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.channels, EPSILON)
        self.readout = MLP((config.channels, config.readout_channels, 1))

    def forward(self, graph: NeighborGraph) -> Tensor:
        nodes = self.nodes(graph)
        if self.paper is None:
            network = self._network(nodes, graph)
        else:
            network = self.paper.energies(self.paper(nodes, self.paper.surroundings(nodes, graph)))
        return self.atom_energies(network, nodes, graph)

    def forward_with_forces(self, graph: NeighborGraph) -> tuple[Tensor, Tensor]:
        if self.paper is None:
            return super().forward_with_forces(graph)
        nodes = self.nodes(graph)
        surroundings = self.paper.surroundings(nodes, graph)
        features = self.paper(nodes, surroundings)
        forces = self.config.scale * self.paper.forces(features, surroundings)[: graph.num_atoms]
        return self.atom_energies(self.paper.energies(features), nodes, graph), forces.to(graph.dtype)

    def _network(self, nodes: Tensor, graph: NeighborGraph) -> Tensor:
        """(nodes,) outputs of the network of the module docstring."""
        config = self.config
        pairs = PairGeometry.from_graph(graph, self.dtype, len(nodes))
        edges, directions = pairs.edges, pairs.vectors
        envelope = polynomial_envelope(pairs.lengths, config.cutoff, config.envelope_power)
        basis = bessel_basis(pairs.lengths, config.cutoff, config.num_bessel)
        frames = EdgeFrames.from_vectors(directions, config.lmax, config.mmax)
        scalars = self.embedding[nodes][:, None]
        around = self.neighbor_embedding(
            scalars, spherical_harmonics(config.lmax, directions), basis * envelope[:, None], edges
        )
        features = torch.cat([scalars + around[:, :1], around[:, 1:]], dim=1)
        envelope = pairs.of_edges(envelope)  # from here on
        for layer in self.layers:
            features = layer(features, frames, basis, envelope, edges)
        energies: Tensor = self.readout(self.norm(features[:, 0])).squeeze(1)
        return energies

    def hops(self) -> int:
        """One a layer, and one before them, where each atom is told of its neighbours."""
        return int(self.config.num_layers) + 1

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        readout = self.readout if self.paper is None else self.paper.energy
        return [list(readout.parameters())[-1]]


class NeighborEmbedding(nn.Module):
    """The edge-degree embedding: radial functions along each edge, which have order m = 0 in its frame.

    Rotated out they are harmonics, Y_lm(edge) R_lc(r), here times the embedding of the neighbour's element.
    """

    def __init__(self, config: EquiformerV2Config) -> None:
        super().__init__()
        self.table = convolution_table(0, config.lmax, config.lmax)
        self.radial = MLP((config.num_bessel, *config.radial_mlp, (config.lmax + 1) * config.channels))
        self.avg_num_neighbors = config.avg_num_neighbors

    def forward(self, scalars: Tensor, harmonics: Tensor, basis: Tensor, edges: Edges) -> Tensor:
        """(nodes, 1, channels) -> (nodes, (lmax + 1)^2, channels); `basis` vanishes at the cutoff."""
        weights = self.radial(basis).view(len(basis), len(self.table.paths), scalars.shape[2])
        return torch.cat(convolve(scalars, harmonics, weights, edges, self.table), dim=1) / self.avg_num_neighbors


class Block(nn.Module):
    """Attention and feed-forward network, each after a norm and added to what there was."""

    def __init__(self, config: EquiformerV2Config) -> None:
        super().__init__()
        self.attention_norm = SeparableLayerNorm(config.channels, config.lmax, EPSILON)
        self.attention = Attention(config)
        self.ffn_norm = SeparableLayerNorm(config.channels, config.lmax, EPSILON)
        self.ffn = GridMLP(all_components(config.lmax), config.channels, config.ffn_channels, config.channels)

    def forward(self, features: Tensor, frames: EdgeFrames, basis: Tensor, envelope: Tensor, edges: Edges) -> Tensor:
        """(nodes, (lmax + 1)^2, channels), basis (pairs, num_bessel), envelope (edges,) -> new features."""
        features = features + self.attention(self.attention_norm(features), frames, basis, envelope, edges)
        updated: Tensor = features + self.ffn(self.ffn_norm(features))
        return updated


class Attention(nn.Module):
    """Equivariant graph attention, f to x' of the module docstring."""

    def __init__(self, config: EquiformerV2Config) -> None:
        super().__init__()
        hidden, lmax, mmax = config.attention_channels, config.lmax, config.mmax
        self.config = config
        self.ends = IrrepLinear([config.channels] * (lmax + 1), 2 * hidden)
        self.first = SO2Linear(hidden, hidden, lmax, mmax)
        self.radial = MLP((config.num_bessel + 1, *config.radial_mlp, self.first.num_scales * hidden))
        self.norm = nn.LayerNorm(hidden, EPSILON)
        self.logits = nn.Parameter(torch.randn(hidden, config.num_heads))
        self.second = SO2Linear(hidden, hidden, lmax, mmax)
        self.out = IrrepLinear([hidden] * (lmax + 1), config.channels)

    def forward(self, features: Tensor, frames: EdgeFrames, basis: Tensor, envelope: Tensor, edges: Edges) -> Tensor:
        """(nodes, (lmax + 1)^2, channels), basis (pairs, num_bessel), envelope (edges,) -> like the features."""
        blocks = irrep_blocks(features, self.config.lmax)
        # two rows for each node: how it acts as a sender, and as a receiver
        ends = self.ends(blocks, math.sqrt(0.5)).unflatten(2, (2, -1)).movedim(2, 1).flatten(0, 1)
        both = frames.rotate_in(ends, torch.stack([2 * edges.sender, 2 * edges.receiver + 1]))
        # the scales need not vanish at the cutoff, as the Bessel functions do: a constant goes with them
        scales = self.radial(nn.functional.pad(basis, (0, 1), value=1.0)).unflatten(1, (self.first.num_scales, -1))
        messages = self.first(both, scales, edges.weight_row)
        logits = smooth_leaky_relu(self.norm(messages[:, 0])) @ (self.logits / math.sqrt(len(self.logits)))
        attention = attention_weights(logits, envelope, edges.receiver, len(features))
        values = self.second(s2_activation(messages, frames.components))
        per_channel = attention.repeat_interleave(values.shape[2] // self.config.num_heads, dim=1)
        summed = frames.rotate_out(values * per_channel[:, None], edges.receiver, len(features))
        updated: Tensor = self.out(irrep_blocks(summed, self.config.lmax))
        return updated


def s2_activation(features: Tensor, components: Components) -> Tensor:
    """The separable activation: f + f^2 at each point of the sphere, and SiLU of the scalars besides.

    These are the terms of SiLU(f) = f/2 + f^2/4 + O(f^4) that a polynomial on an exact grid can have; linear layers
    stand before and behind. Shapes (n, components, channels) -> the same.
    """
    scalars, rest = grid_product([features, features], components).split([1, len(components) - 1], dim=1)
    return torch.cat([scalars + silu(features[:, :1]), rest], dim=1)


def attention_weights(logits: Tensor, envelope: Tensor, receiver: Tensor, num_nodes: int) -> Tensor:
    """A softmax over the neighbours of each node and nobody, whose logit is 0; neighbours enter by their envelope.

        a_e = u_e exp(z_e) / (1 + sum over edges e' into the node of u_e' exp(z_e'))

    The 1 lets the last neighbour leave smoothly: without it the weight of an only one is 1 whatever its envelope.
    Shapes (edges, heads), (edges,), (edges,) -> (edges, heads).
    """
    logits = logits.to(envelope.dtype)  # under autocast they are narrower
    # the largest logit is subtracted, lest exp overflows; nothing depends on it, hence detached
    nobody = logits.new_zeros(num_nodes, logits.shape[1])
    largest = nobody.scatter_reduce(0, receiver[:, None].expand_as(logits), logits.detach(), "amax")
    terms = envelope[:, None] * torch.exp(logits - largest.index_select(0, receiver))
    total = torch.exp(-largest).index_add(0, receiver, terms)
    return terms / total.index_select(0, receiver)


def smooth_leaky_relu(x: Tensor) -> Tensor:
    """0.2 x + 0.8 x sigmoid(x): of slope 1 far on the right and 0.2 far on the left."""
    return 0.2 * x + (0.8 / SILU_GAIN) * silu(x)
