"""The layer of MACE-MH-1 (Batatia et al., arXiv:2510.25380): a gate acts on messages before they are multiplied.

Where it differs from `MACELayer` of model.py:

| | `MACELayer` | `GatedLayer` |
|---|---|---|
| radial network | of the distance | of the distance and of the elements of both atoms; directions differ |
| envelope | in the radial basis | on what the radial network makes |
| convolution | of all channels | of `edge_channels` of them |
| message | divided by avg_num_neighbors or a density | divided by a + b times a density, plus a residual, then gated |
| weights of the product, of the skip connection | for each element | for all elements the same |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atomsml.nn.linear import GradedLinear, IrrepLinear, irrep_blocks
from atomsml.ops.activation import silu
from atomsml.ops.convolution import Edges, convolution_table, convolve
from atomsml.potentials.mace.product import PRODUCTS

if TYPE_CHECKING:
    from atomsml.potentials.mace.model import MACEConfig

DENSITY_WIDTH = 64  # of the hidden layer of the density's network
FIRST_DIVISOR = 20.0  # of messages, before a density is learned


class GatedLayer(nn.Module):
    """One interaction (A) and product (B), and the update of the node features."""

    def __init__(self, config: MACEConfig, lmax_in: int, lmax_out: int) -> None:
        super().__init__()
        c, lmax, elements = config.channels, config.lmax, len(config.elements)
        edge_channels = config.edge_channels or c
        before_gate = (c * (1 + lmax), *[c] * lmax)  # a scalar more for every channel that is gated
        self.lmax, self.lmax_in, self.lmax_out = lmax, lmax_in, lmax_out
        self.edge_channels = edge_channels
        self.table = convolution_table(lmax_in, lmax, lmax)
        self.linear_up = IrrepLinear([c] * (lmax_in + 1), edge_channels)
        self.radial = PairNetwork(
            elements, (config.num_bessel, *config.radial_mlp, len(self.table.paths) * edge_channels)
        )
        self.density = PairNetwork(elements, (config.num_bessel, DENSITY_WIDTH, 1))
        self.divisor = nn.Parameter(torch.tensor([FIRST_DIVISOR, 0.0]))  # a, b
        self.linear = GradedLinear([len(paths) * edge_channels for paths in self.table.by_degree.values()], before_gate)
        self.residual = GradedLinear([edge_channels] * (lmax_in + 1), before_gate)
        self.linear_gated = IrrepLinear([c] * (lmax + 1), c)
        self.product = PRODUCTS[config.product](1, c, lmax, config.correlation, lmax_out)
        self.linear_out = IrrepLinear([c] * (lmax_out + 1), c)
        self.skip = IrrepLinear([c] * (min(lmax_in, lmax_out) + 1), c)

    def forward(
        self, features: Tensor, species: Tensor, harmonics: Tensor, basis: Tensor, envelope: Tensor, edges: Edges
    ) -> Tensor:
        """Features of atoms (atoms, (lmax_in + 1)^2, channels) -> (atoms, (lmax_out + 1)^2, channels)."""
        message = self._message(features, species, harmonics, basis, envelope, edges)
        product = self.product(message, torch.zeros_like(species))
        updated: Tensor = self.linear_out(irrep_blocks(product, self.lmax_out))
        kept = irrep_blocks(features, self.lmax_in)[: len(self.skip.weights)]
        skipped: Tensor = self.skip(kept)
        return updated + nn.functional.pad(skipped, (0, 0, 0, updated.shape[1] - skipped.shape[1]))

    def _message(
        self, features: Tensor, species: Tensor, harmonics: Tensor, basis: Tensor, envelope: Tensor, edges: Edges
    ) -> Tensor:
        """A: (atoms, (lmax + 1)^2, channels)."""
        ends = species[edges.sender], species[edges.receiver]
        of_edges, fade = basis[edges.weight_row], envelope[edges.weight_row, None]
        weights = (self.radial(of_edges, *ends) * fade).view(len(of_edges), len(self.table.paths), self.edge_channels)
        edge_density = (torch.tanh(self.density(of_edges, *ends) ** 2) * fade).squeeze(1)
        density = edge_density.new_zeros(len(features)).index_add(0, edges.receiver, edge_density)
        own = dataclasses.replace(edges, weight_row=torch.arange(len(of_edges), device=of_edges.device))
        up = self.linear_up(irrep_blocks(features, self.lmax_in))
        divisor = (self.divisor[0] + self.divisor[1] * density)[:, None, None]
        message = [x / divisor for x in self.linear(convolve(up, harmonics, weights, own, self.table))]
        for l, x in enumerate(self.residual(irrep_blocks(up, self.lmax_in))):
            message[l] = message[l] + x
        gated: Tensor = self.linear_gated(gate(message))
        return gated


class PairNetwork(nn.Module):
    """Numbers for an edge from functions of its length and the elements of its ends.

    Linear maps of the given widths; before the hidden layers' SiLU a layer normalisation (Ba et al., arXiv:1607.06450).
    Each element adds a vector of its own to the first hidden layer, one as sender and another as receiver.
    """

    def __init__(self, num_elements: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, hidden = widths[0], widths[1:-1]
        self.of_length = nn.Linear(first, hidden[0], bias=False)
        self.of_sender = nn.Parameter(torch.randn(num_elements, hidden[0]))
        self.of_receiver = nn.Parameter(torch.randn(num_elements, hidden[0]))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in hidden)
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(hidden, widths[2:], strict=True))

    def forward(self, basis: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        """basis (edges, widths[0]), species of the ends (edges,) -> (edges, widths[-1])."""
        x: Tensor = self.of_length(basis) + self.of_sender[sender] + self.of_receiver[receiver]
        for norm, linear in zip(self.norms, self.linears, strict=True):
            x = linear(nn.functional.silu(norm(x)))
        return x


def gate(blocks: Sequence[Tensor]) -> list[Tensor]:
    """SiLU of the first scalars, as many as there are channels; each other channel times the sigmoid of a scalar."""
    channels = blocks[1].shape[2] if len(blocks) > 1 else blocks[0].shape[2]
    scalars, *gates = blocks[0].split(channels, dim=2)
    return [silu(scalars), *(x * torch.sigmoid(g) for x, g in zip(blocks[1:], gates, strict=True))]
