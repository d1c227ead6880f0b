"""One layer of Facet with products of signals on the sphere; the equations are in `model.py`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atomsml.nn.linear import IrrepLinear, irrep_blocks
from atomsml.nn.sphere import GridMLP
from atomsml.o3.s2_grid import all_components
from atomsml.ops.convolution import Edges
from atomsml.ops.graded_convolution import graded_convolve, graded_table
from atomsml.potentials.facet.config import FacetConfig
from atomsml.radial.spline import spline_basis


class SplineBasis(nn.Module):
    """The cubic splines of `radial/spline.py`, whose coefficients the layers have."""

    def __init__(self, config: FacetConfig) -> None:
        super().__init__()
        self.cutoff, self.num, self.power = config.cutoff, config.num_splines, config.envelope_power

    def forward(self, lengths: Tensor) -> Tensor:
        """(pairs,) lengths in A -> (pairs, num_splines)."""
        return spline_basis(lengths, self.cutoff, self.num, self.power)


class ProductLayer(nn.Module):
    """One convolution, and the self-connection with its residual."""

    def __init__(self, config: FacetConfig, channels_in: tuple[int, ...], channels_out: tuple[int, ...]) -> None:
        super().__init__()
        self.scale = config.avg_num_neighbors**-0.7
        self.lmax, self.channels_out = config.lmax, channels_out
        self.table = graded_table(channels_in, config.lmax, config.lmax)
        self.splines = nn.Parameter(torch.randn(config.num_splines, self.table.num_weights))
        own = [*channels_in, *[0] * (config.lmax + 1 - len(channels_in))]
        both = [a + b for a, b in zip(self.table.channels_out, own, strict=True)]
        self.linear = IrrepLinear(both, config.grid_channels)
        components = all_components(config.lmax)
        self.grid = GridMLP(components, config.grid_channels, config.grid_channels, channels_out[0], config.order)

    def forward(self, blocks: Sequence[Tensor], harmonics: Tensor, basis: Tensor, edges: Edges) -> list[Tensor]:
        message = graded_convolve(blocks, harmonics, basis @ self.splines * self.scale, edges, self.table)
        own = [[h] for h in blocks] + [[] for _ in message[len(blocks) :]]
        both = [torch.cat([a, *h], dim=2) for a, h in zip(message, own, strict=True)]
        mapped = irrep_blocks(self.grid(self.linear(both)), self.lmax)
        update = [x[:, :, :c] for x, c in zip(mapped, self.channels_out, strict=False)]  # lower multiplicity: some fall
        return [x + h[:, :, : x.shape[2]] for x, h in zip(update, blocks, strict=False)] + update[len(blocks) :]
