"""EquiformerV2's network as its authors wrote it (Liao et al., arXiv:2306.12059): their program's outputs.

    x_i = e_i + sum_j D^T R(t_ij) / n                          first features, with the edge-degree embedding
    x <- x + drop(attention(norm(x)))                          block; drop: in training alone
    x <- x + drop(feed_forward(norm(x)))
    E_i = W' silu(W norm(x_i)_0) / N                           energy; forces: an attention, of which degree 1 is read

Attention, R and t are those of `attention.py`. Feed-forward networks are perceptrons at points of the sphere, beside
one of the scalars. Nothing vanishes at the cutoff: energies jump there.

| symbol | name | shape |
|---|---|---|
| x | features | (nodes, (lmax + 1)^2, channels) |
| e | embedding | (elements, channels) |
| D | frames: the Wigner matrix of an edge, without its rows of abs(m) > mmax | |
| n, N | avg_num_neighbors, avg_num_atoms | |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad, silu

from atomsml.graph import NeighborGraph
from atomsml.nn.edge_frame import EdgeFrames, edge_rotation
from atomsml.nn.linear import IrrepLinear, irrep_blocks
from atomsml.nn.norm import DegreeLayerNorm, SeparableLayerNorm
from atomsml.nn.sphere import on_grid
from atomsml.o3.s2_grid import all_components
from atomsml.pair_geometry import PairGeometry
from atomsml.potentials.equiformer_v2.attention import (
    EPSILON,
    Attention,
    RadialNetwork,
    Surroundings,
    activate,
    grid,
    linear,
    num_gates,
    of_order_zero,
    out_of,
)
from atomsml.potentials.equiformer_v2.config import EquiformerV2Config
from atomsml.radial.bases import gaussian_basis

GAUSSIAN_WIDTH = 2.0  # standard deviation of the functions of the distance, over that from one to the next


class PaperNetwork(nn.Module):
    """The equations of the module docstring."""

    def __init__(self, config: EquiformerV2Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.randn(len(config.elements), config.channels))
        self.degree_embedding = RadialNetwork(config, (config.lmax + 1) * config.channels)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = normalization(config)
        hidden = config.readout_channels
        self.energy = nn.Sequential(linear(config.channels, hidden), nn.SiLU(), linear(hidden, 1, bias=False))
        if config.direct_forces:
            self.force = Attention(config, 1, dropout=0.0)

    def surroundings(self, nodes: Tensor, graph: NeighborGraph) -> Surroundings:
        """What layers need of a graph; `nodes` are those of `Potential.nodes`."""
        config, pairs = self.config, PairGeometry.from_graph(graph, self.embedding.dtype, len(nodes))
        # activations on a grid see the roll of a frame: derivatives follow it
        frames = EdgeFrames.from_rotations(edge_rotation(pairs.vectors), config.lmax, config.mmax)
        return Surroundings(
            edges=pairs.edges,
            species=torch.stack([nodes[pairs.edges.sender], nodes[pairs.edges.receiver]]),
            basis=gaussian_basis(pairs.lengths, config.cutoff, config.num_gaussians, GAUSSIAN_WIDTH),
            frames=frames,
            back=out_of(frames),
            systems=pad(graph.batch, (0, len(nodes) - graph.num_atoms), value=graph.num_systems),
        )

    def forward(self, nodes: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) features after the last norm."""
        features = self.first_features(nodes, surroundings)
        for layer in self.layers:
            features = layer(features, surroundings)
        normed: Tensor = self.norm(features)
        return normed

    def first_features(self, nodes: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels): what an atom is, and how many neighbours are where."""
        scalars = self.embedding[nodes][:, None]
        radial = self.degree_embedding(surroundings).unflatten(1, (self.config.lmax + 1, -1))
        messages = of_order_zero(radial, surroundings.frames.components)
        around = surroundings.back.rotate_out(messages, surroundings.edges.receiver, len(nodes))
        around = around / self.config.avg_num_neighbors
        return torch.cat([scalars + around[:, :1], around[:, 1:]], dim=1)

    def energies(self, features: Tensor) -> Tensor:
        """(nodes,)"""
        found: Tensor = self.energy(features[:, 0]).squeeze(1) / self.config.avg_num_atoms
        return found

    def forces(self, features: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, 3)"""
        found: Tensor = self.force(features, surroundings)[:, 1:4, 0]  # x, y, z
        return found


class Block(nn.Module):
    """Attention and feed-forward network, each after a norm and added to what there was."""

    def __init__(self, config: EquiformerV2Config) -> None:
        super().__init__()
        self.attention_norm = normalization(config)
        self.attention = Attention(config, config.channels, config.attention_dropout)
        self.ffn_norm = normalization(config)
        self.ffn = FeedForward(config)
        self.drop = Drop(config.drop_path, config.projection_dropout)

    def forward(self, features: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) -> the same."""
        update = self.attention(self.attention_norm(features), surroundings)
        features = features + self.drop(update, surroundings.systems)
        updated: Tensor = features + self.drop(self.ffn(self.ffn_norm(features)), surroundings.systems)
        return updated


class FeedForward(nn.Module):
    """W' f(W x): f a perceptron at points of the sphere, and SiLU of a linear map of the scalars; or gates."""

    def __init__(self, config: EquiformerV2Config) -> None:
        super().__init__()
        c, hidden, lmax = config.channels, config.ffn_channels, config.lmax
        self.components = all_components(lmax)
        self.first = IrrepLinear([c] * (lmax + 1), hidden, bias=True)
        self.scalars = linear(c, num_gates(config, hidden))
        self.point_wise = None
        if config.activation == "separable_s2":
            self.grid = grid(config, self.components, lmax)
            self.point_wise = nn.Sequential(
                *(linear(hidden, hidden, bias=False), nn.SiLU(), linear(hidden, hidden, bias=False), nn.SiLU()),
                linear(hidden, hidden, bias=False),
            )
        self.second = IrrepLinear([hidden] * (lmax + 1), c, bias=True)

    def forward(self, features: Tensor) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) -> the same."""
        lmax = self.components[-1][0]
        scalars, hidden = self.scalars(features[:, 0]), self.first(irrep_blocks(features, lmax))
        if self.point_wise is None:
            active = activate(hidden, scalars, self.components, None)
        else:
            others = on_grid(hidden, self.grid, self.point_wise)[:, 1:]
            active = torch.cat([silu(scalars)[:, None], others], dim=1)
        updated: Tensor = self.second(irrep_blocks(active, lmax))
        return updated


class Drop(nn.Module):
    """In training alone: leaves out an update for some systems as a whole, and some channels of it for each atom.

    What is kept is scaled up, so that the mean stays. (Isolated atoms, which give the zero of energies, count as one
    more system.)
    """

    def __init__(self, path: float, channels: float) -> None:
        super().__init__()
        self.path, self.channels = path, channels

    def forward(self, update: Tensor, systems: Tensor) -> Tensor:
        """(nodes, components, channels), (nodes,) -> the first's shape."""
        if self.training and self.path > 0:
            kept = dropout(update.new_ones(int(systems.max()) + 1), self.path)
            update = update * kept[systems][:, None, None]
        if self.training and self.channels > 0:
            update = update * dropout(update.new_ones(len(update), 1, update.shape[2]), self.channels)
        return update


def normalization(config: EquiformerV2Config) -> nn.Module:
    """The layer norm that the config asks for."""
    if config.norm == "separable":
        return SeparableLayerNorm(config.channels, config.lmax, EPSILON)
    return DegreeLayerNorm(config.channels, config.lmax, EPSILON, joint=config.norm == "joint")
