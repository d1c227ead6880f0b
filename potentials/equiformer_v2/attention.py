"""Attention of EquiformerV2 as its authors wrote it (Liao et al., arXiv:2306.12059): in the frames of edges.

On the edge from neighbour j to centre i, with D the rotation that takes the edge to the polar axis:

    f, s, t = SO2(R(t_ij) * D [x_j, x_i])            [,] joins channels; s and t are scalars that come out besides
    z_h = w_h . leaky(layer_norm(s_h))               a logit for each head h; layer_norm: attention re-normalisation
    a = softmax over the neighbours of i (z)
    x_i' = W sum_j D^T (a_h SO2(activation(f, t)))   each head has channels of its own

| symbol | name | shape |
|---|---|---|
| x | features | (nodes, (lmax + 1)^2, channels) |
| f | hidden messages | (edges, rows of `edge_components`, attention_channels) |
| s | | (edges, heads, alpha_channels) |
| z, a | logits, attention | (edges, heads) |
| R | radial network | (edges, scales, 2 channels) |
| t_ij | functions of an edge's length, elements of both ends | (edges, num_gaussians + 2 radial_mlp[-1]) |
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad, silu

from atomsml.nn.edge_frame import EdgeFrames, edge_components
from atomsml.nn.linear import IrrepLinear, UnitLinear, irrep_blocks
from atomsml.nn.so2 import SO2Linear
from atomsml.nn.sphere import on_grid
from atomsml.o3.s2_grid import Components, S2Grid
from atomsml.ops.convolution import Edges
from atomsml.potentials.equiformer_v2.config import EquiformerV2Config

EPSILON = 1e-5  # of norms


@dataclass(frozen=True)
class Surroundings:
    """What layers know of the neighbours of atoms."""

    edges: Edges  # weight_row: the pair of an edge
    species: Tensor  # (2, edges) of senders and receivers
    basis: Tensor  # (pairs, num_gaussians)
    frames: EdgeFrames  # into the frames of edges
    back: EdgeFrames  # out of them; see `out_of`
    systems: Tensor  # (nodes,) to which system a node belongs


def out_of(frames: EdgeFrames) -> EdgeFrames:
    """Frames whose matrices make up for the orders that were left out, as far as the size of features goes.

    Degrees l > mmax, of whose 2 l + 1 orders 2 mmax + 1 are kept, are multiplied by the root of their ratio.
    """
    kept = 2 * frames.mmax + 1
    wigner = [d if 2 * l + 1 <= kept else d * ((2 * l + 1) / kept) ** 0.5 for l, d in enumerate(frames.wigner)]
    return EdgeFrames(frames.lmax, frames.mmax, tuple(wigner))


class RadialNetwork(nn.Module):
    """Functions of the distance and of the elements at both ends of an edge.

    W ... h(W2 h(W1 t)) with h(x) = silu(layer_norm(x)) and biases.
    """

    def __init__(self, config: EquiformerV2Config, num: int) -> None:
        super().__init__()
        last = config.radial_mlp[-1]
        self.embedding = nn.Parameter(1e-3 * (2 * torch.rand(2, len(config.elements), last) - 1))
        widths = (config.num_gaussians + 2 * last, *config.radial_mlp)
        hidden = [(linear(a, b), nn.LayerNorm(b, EPSILON), nn.SiLU()) for a, b in itertools.pairwise(widths)]
        self.network = nn.Sequential(*itertools.chain.from_iterable(hidden), linear(last, num))

    def forward(self, surroundings: Surroundings) -> Tensor:
        """(edges, num)."""
        ends = [table[species] for table, species in zip(self.embedding, surroundings.species, strict=True)]
        found: Tensor = self.network(torch.cat([surroundings.basis[surroundings.edges.weight_row], *ends], dim=1))
        return found


class Attention(nn.Module):
    """The equations of the module docstring.

    Args:
        channels_out: 1 for a head that reads forces, `config.channels` elsewhere.
        dropout: share of attention weights that are left out in training.
    """

    def __init__(self, config: EquiformerV2Config, channels_out: int, dropout: float) -> None:
        super().__init__()
        c, hidden, heads, lmax, mmax = (
            *(config.channels, config.attention_channels, config.num_heads, config.lmax, config.mmax),
        )
        self.heads, self.dropout = heads, dropout
        self.grid = grid(config, edge_components(lmax, mmax), mmax) if config.activation == "separable_s2" else None
        self.num_logits = heads * config.alpha_channels
        self.first = SO2Linear(
            *(2 * c, hidden, lmax, mmax),
            parity=False,
            scalars=self.num_logits + num_gates(config, hidden),
            bias=True,
        )
        self.radial = RadialNetwork(config, self.first.num_scales * 2 * c)
        self.norm = nn.LayerNorm(config.alpha_channels, EPSILON) if config.attention_renormalization else nn.Identity()
        self.logits = nn.Parameter(2 * torch.rand(heads, config.alpha_channels) - 1)
        self.second = SO2Linear(hidden, heads * config.value_channels, lmax, mmax, parity=False, bias=True)
        self.out = IrrepLinear([heads * config.value_channels] * (lmax + 1), channels_out, bias=True)

    def forward(self, features: Tensor, surroundings: Surroundings) -> Tensor:
        """(nodes, (lmax + 1)^2, channels) -> (nodes, (lmax + 1)^2, channels_out)."""
        edges, frames, num = surroundings.edges, surroundings.frames, len(features)
        both = torch.cat([frames.rotate_in(features, end) for end in (edges.sender, edges.receiver)], dim=2)
        scales = self.radial(surroundings).unflatten(1, (self.first.num_scales, -1))
        messages, scalars = self.first.with_scalars(both, scales)
        of_logits, gates = scalars.tensor_split([self.num_logits], dim=1)
        attention = neighbor_softmax(self.attention_logits(of_logits), edges.receiver, num)
        attention = dropout(attention, self.dropout, self.training)
        values = self.second(activate(messages, gates, frames.components, self.grid)).unflatten(2, (self.heads, -1))
        weighted = (values * attention[:, None, :, None]).flatten(2)
        summed = surroundings.back.rotate_out(weighted, edges.receiver, num)
        updated: Tensor = self.out(irrep_blocks(summed, frames.lmax))
        return updated

    def attention_logits(self, scalars: Tensor) -> Tensor:
        """(edges, heads * alpha_channels) -> (edges, heads)."""
        x = self.norm(scalars.unflatten(1, self.logits.shape))
        x = 0.2 * x + 0.8 * x * torch.sigmoid(x)  # smooth leaky ReLU
        return (x * (self.logits / self.logits.shape[1] ** 0.5)).sum(dim=2)


def num_gates(config: EquiformerV2Config, channels: int) -> int:
    """How many scalars `activate` asks for."""
    return channels if config.activation == "separable_s2" else config.lmax * channels


def activate(x: Tensor, scalars: Tensor, components: Components, grid: S2Grid | None) -> Tensor:
    """A nonlinearity of features (n, components, channels), to which (n, `num_gates`) scalars belong.

    With a grid the separable S2 activation: SiLU of the scalars, which become degree 0, and SiLU at the points of the
    grid for all others. Without, the gate activation: SiLU of degree 0, and sigmoids of the scalars that multiply each
    channel of each other degree.
    """
    if grid is not None:
        return torch.cat([silu(scalars)[:, None], on_grid(x, grid, silu)[:, 1:]], dim=1)
    gates = torch.sigmoid(scalars).unflatten(1, (-1, x.shape[2]))
    of_components = torch.stack([gates[:, l - 1] for l, _ in components[1:]], dim=1)
    return torch.cat([silu(x[:, :1]), x[:, 1:] * of_components], dim=1)


def grid(config: EquiformerV2Config, components: Components, mmax: int) -> S2Grid:
    """The points at which signals of orders up to mmax are activated.

    Values have unit variance where coefficients have, as in e3nn's normalisation "component"; degrees of which orders
    are missing are scaled up on the way there and once more on the way back.
    """
    lmax = config.lmax
    latitudes, longitudes = (config.grid_resolution,) * 2
    if not config.grid_resolution:
        latitudes, longitudes = 2 * (lmax + 1), 2 * mmax + (3 if mmax == lmax else 1)
    unit = [((lmax + 1) * (2 * l + 1)) ** -0.5 for l in range(lmax + 1)]
    up = [max(1.0, (2 * l + 1) / (2 * mmax + 1)) ** 0.5 for l in range(lmax + 1)]
    return S2Grid(
        *(components, latitudes, longitudes, "equiangular"),
        to_scales=tuple(s * u for s, u in zip(unit, up, strict=True)),
        from_scales=tuple(u / s for s, u in zip(unit, up, strict=True)),
    )


def neighbor_softmax(logits: Tensor, receiver: Tensor, num_nodes: int) -> Tensor:
    """A softmax over the edges of each receiving node: (edges, heads), (edges,) -> (edges, heads)."""
    # the largest logit is subtracted, lest exp overflows; nothing depends on it, hence detached
    least = logits.new_full((num_nodes, logits.shape[1]), -torch.inf)
    largest = least.scatter_reduce(0, receiver[:, None].expand_as(logits), logits.detach(), "amax")
    terms = torch.exp(logits - largest.index_select(0, receiver))
    total = torch.zeros_like(least).index_add(0, receiver, terms)
    return terms / total.index_select(0, receiver)


def linear(inputs: int, outputs: int, bias: bool = True) -> UnitLinear:
    """A linear map with random weights, and biases of zero."""
    made = UnitLinear(inputs, outputs, bias)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def of_order_zero(radial: Tensor, components: Components) -> Tensor:
    """(edges, lmax + 1, channels), features of order 0, as (edges, components, channels) in an edge's frame."""
    return pad(radial, (0, 0, 0, len(components) - radial.shape[1]))
