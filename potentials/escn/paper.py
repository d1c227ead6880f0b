"""eSCN's network as its authors wrote it (arXiv:2302.03655): their program's outputs, up to a factor of the energy.

    x_i = e_i                                                                     first features, of degree 0 alone
    m_i = sum_j D_ij^T S[C_s(D_ij x_j, t_ij) + C_r(D_ij x_i, t_ij)]               message
    x_i <- x_i + P[x_i, m_i]                                                      layer; the first one is P alone
    E_i = mean of q(x_i(r_p)),    F_i = mean of f(x_i(r_p)) r_p                   readouts at points r_p of the sphere

S applies SiLU, and P a perceptron, to the values of signals at the points of a grid, and projects what comes back: both
are equivariant up to the error of that grid alone. No function vanishes at the cutoff: energies jump there.

| symbol | name | shape |
|---|---|---|
| x | features | (nodes, (lmax + 1)^2, channels) |
| e | embedding | (elements, channels) |
| t | scalars of an edge: its length, its sender's and its receiver's element | (edges, radial_mlp[0]) |
| D | frames: the Wigner matrix of an edge, without its rows of abs(m) > mmax | |
| C | two SO2Convolutions, for the sender and for the receiver | |
| q, f | perceptrons | |
| r_p | sphere_points | (num_sphere_points, 3) |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from atomsml.graph import NeighborGraph
from atomsml.nn.edge_frame import EdgeFrames, edge_components, edge_rotation
from atomsml.nn.linear import UnitLinear
from atomsml.nn.sphere import on_grid
from atomsml.o3 import spherical_harmonics
from atomsml.o3.s2_grid import Components, S2Grid, all_components
from atomsml.ops.convolution import Edges
from atomsml.pair_geometry import PairGeometry
from atomsml.potentials.escn.config import ESCNConfig
from atomsml.radial.bases import gaussian_basis

UNIT = 1 / math.sqrt(4 * math.pi)  # their harmonics, whose squares integrate to 1 over the sphere, over ours


class PaperNetwork(nn.Module):
    """The equations of the module docstring."""

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.randn(len(config.elements), config.channels))
        self.layers = nn.ModuleList(PaperLayer(config) for _ in range(config.num_layers))
        self.energy = perceptron(config.channels)
        if config.direct_forces:
            self.force = perceptron(config.channels)

    def forward(self, nodes: Tensor, graph: NeighborGraph) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) features after the last layer; `nodes` are those of `Potential.nodes`."""
        return self.features(nodes, self.surroundings(nodes, graph))

    def surroundings(self, nodes: Tensor, graph: NeighborGraph) -> PaperSurroundings:
        """What layers need of a graph."""
        config, pairs = self.config, PairGeometry.from_graph(graph, self.embedding.dtype, len(nodes))
        return PaperSurroundings(
            edges=pairs.edges,
            species=torch.stack([nodes[pairs.edges.sender], nodes[pairs.edges.receiver]]),
            basis=gaussian_basis(pairs.lengths, config.cutoff, config.num_gaussians, config.gaussian_width),
            frames=EdgeFrames.from_rotations(edge_rotation(pairs.vectors), config.lmax, config.mmax),
        )

    def features(self, nodes: Tensor, surroundings: PaperSurroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) after the last layer."""
        first, *others = self.layers
        scalars = self.embedding[nodes][:, None]
        features: Tensor = first(nn.functional.pad(scalars, (0, 0, 0, (self.config.lmax + 1) ** 2 - 1)), surroundings)
        for layer in others:
            features = features + layer(features, surroundings)
        return features

    def energies(self, features: Tensor) -> Tensor:
        """(nodes,)"""
        _, harmonics = self._readout(features)
        found: Tensor = self.energy(harmonics @ features).mean(dim=(1, 2))
        return found

    def forces(self, features: Tensor) -> Tensor:
        """(nodes, 3)"""
        points, harmonics = self._readout(features)
        found: Tensor = self.force(harmonics @ features).squeeze(2) @ points
        return found

    def _readout(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return readout_matrices(self.config.lmax, self.config.num_sphere_points, features.dtype, features.device)


@dataclass(frozen=True)
class PaperSurroundings:
    """What layers know of the neighbours of atoms."""

    edges: Edges  # weight_row: the pair of an edge
    species: Tensor  # (2, edges) of senders and receivers
    basis: Tensor  # (pairs, num_gaussians)
    frames: EdgeFrames


class PaperLayer(nn.Module):
    """P[x, m] of the module docstring: the message to every atom, and a perceptron of both on the sphere."""

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        c = config.channels
        self.scalars = EdgeScalars(config)
        self.of_sender, self.of_receiver = SO2Convolution(config), SO2Convolution(config)
        self.edge_grid = grid(config, edge_components(config.lmax, config.mmax), config.mmax)
        self.grid = grid(config, all_components(config.lmax), config.lmax)
        self.point_wise = nn.Sequential(
            *(UnitLinear(2 * c, c, bias=False), nn.SiLU(), UnitLinear(c, c, bias=False), nn.SiLU()),
            UnitLinear(c, c, bias=False),
        )

    def forward(self, features: Tensor, surroundings: PaperSurroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) -> the same."""
        both = torch.cat([features, self.message(features, surroundings)], dim=2)
        return on_grid(both, self.grid, self.point_wise)

    def message(self, features: Tensor, surroundings: PaperSurroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) -> the same: the sum of what the neighbours of each atom tell it."""
        edges, frames, scalars = surroundings.edges, surroundings.frames, self.scalars(surroundings)
        from_sender = self.of_sender(frames.rotate_in(features, edges.sender), scalars)
        from_receiver = self.of_receiver(frames.rotate_in(features, edges.receiver), scalars)
        active = on_grid(from_sender + from_receiver, self.edge_grid, silu)
        return frames.rotate_out(active, edges.receiver, len(features))


class EdgeScalars(nn.Module):
    """What an edge is: t = silu W2 silu(W1 g(r) + e_sender + e_receiver), with Gaussians g of the length."""

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        (width,) = config.radial_mlp
        self.distance = UnitLinear(config.num_gaussians, width)
        self.embedding = nn.Parameter(1e-3 * (2 * torch.rand(2, len(config.elements), width) - 1))
        self.linear = UnitLinear(width, width)

    def forward(self, surroundings: PaperSurroundings) -> Tensor:
        """(edges, radial_mlp[0])."""
        lengths = self.distance(surroundings.basis)[surroundings.edges.weight_row]
        sender, receiver = self.embedding[0][surroundings.species[0]], self.embedding[1][surroundings.species[1]]
        return silu(self.linear(silu(lengths + sender + receiver)))


class SO2Convolution(nn.Module):
    """Features in the frames of edges through a narrow layer, where what describes the edge multiplies them.

    For order 0 this is y = W' (s W x), and for each order m > 0, of whose components x_m and x_-m a rotation about the
    edge makes a complex number, with a pair of matrices and of scales for its real and for its imaginary part,

        y_m = R(x_m) - I(x_-m),    y_-m = R(x_-m) + I(x_m),    R(x) = W'_R (s_R W_R x),    I(x) = W'_I (s_I W_I x).

    The scales are s = silu(V t) of the scalars t of an edge.
    """

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        h, (width,) = config.hidden_channels, config.radial_mlp
        self.rows = [config.lmax + 1 - m for m in range(config.mmax + 1)]  # degrees of each order
        sizes = [rows * config.channels for rows in self.rows]
        self.zero = NarrowLinear(sizes[0], h, width)
        self.real = nn.ModuleList(NarrowLinear(size, h, width) for size in sizes[1:])
        self.imaginary = nn.ModuleList(NarrowLinear(size, h, width) for size in sizes[1:])

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """(edges, rows of `edge_components`, channels), (edges, radial_mlp[0]) -> the shape of the first."""
        parts = x.split([self.rows[0], *(2 * rows for rows in self.rows[1:])], dim=1)
        out = [self.zero(parts[0].flatten(1)[:, None], scalars)]
        for part, real, imaginary in zip(parts[1:], self.real, self.imaginary, strict=True):
            pair = part.unflatten(1, (2, -1)).flatten(2)  # +m, -m
            of_real, of_imaginary = real(pair, scalars), imaginary(pair, scalars)
            out += [of_real[:, :1] - of_imaginary[:, 1:], of_real[:, 1:] + of_imaginary[:, :1]]
        return torch.cat([y.flatten(1) for y in out], dim=1).unflatten(1, (x.shape[1], -1))


class NarrowLinear(nn.Module):
    """W' (s W x) with scales s = silu(V t + b)."""

    def __init__(self, size: int, hidden: int, width: int) -> None:
        super().__init__()
        self.scales = UnitLinear(width, hidden)
        self.first = UnitLinear(size, hidden, bias=False)
        self.second = UnitLinear(hidden, size, bias=False)

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """(edges, n, size), (edges, width) -> (edges, n, size)."""
        mapped: Tensor = self.second(self.first(x) * silu(self.scales(scalars))[:, None])
        return mapped


def grid(config: ESCNConfig, components: Components, mmax: int) -> S2Grid:
    """The points at which signals of orders up to mmax are activated: few, unless the config gives their number."""
    few = 2 * (config.lmax + 1), 2 * mmax + (3 if mmax == config.lmax else 1)
    latitudes, longitudes = (config.grid_resolution,) * 2 if config.grid_resolution else few
    return S2Grid(components, latitudes, longitudes, "equiangular", (UNIT,) * (config.lmax + 1))


def perceptron(channels: int) -> nn.Sequential:
    """The energy, or the strength of the force, at a point of the sphere from the values of the channels there."""
    return nn.Sequential(
        *(UnitLinear(channels, channels), nn.SiLU(), UnitLinear(channels, channels), nn.SiLU()),
        UnitLinear(channels, 1, bias=False),
    )


def sphere_points(num: int) -> Tensor:
    """(num, 3) float64: a golden spiral about z. Points are longer where they are sparse: their mean length is 1.

    Point i has cos(theta) = 1 - (2 i + 1) / num, longitude 2 pi i / 1.618... and a length in proportion to
    1 / sum_j exp(-|r_i - r_j|^2 / 0.15).
    """
    i = torch.arange(num, dtype=torch.float64)
    z, longitude = 1 - (2 * i + 1) / num, i * (4 * math.pi / (1 + math.sqrt(5)))
    radius = (1 - z.square()).sqrt()
    points = torch.stack([radius * longitude.cos(), radius * longitude.sin(), z], dim=1)
    lengths = 1 / torch.exp(-(points[:, None] - points).square().sum(dim=2) / 0.15).sum(dim=1)
    return points * (lengths / lengths.mean())[:, None]


@lru_cache
def readout_matrices(lmax: int, num: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """r_p / num (num, 3), and |r_p|^l Y_l(r_p) (num, (lmax + 1)^2) in their normalisation; kept."""
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        points = sphere_points(num)
        degrees = torch.tensor([l for l, _ in all_components(lmax)])
        lengths = torch.linalg.vector_norm(points, dim=1, keepdim=True)
        harmonics = UNIT * lengths**degrees * spherical_harmonics(lmax, points)
        return (points / num).to(device, dtype), harmonics.to(device, dtype)
