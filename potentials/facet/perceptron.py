"""One layer of the published Facet: a perceptron at points of the sphere; the equations are in `model.py`.

What the perceptron makes of signals has all degrees, and the grid mistakes high ones for low ones: the layer is
equivariant to rotations up to an error that falls with the number of points (docs/architectures.md measures it). All
features are even under inversion and products of odd l1 + l2 + l3 count, so that it is not equivariant to inversions.

The authors published code without a licence. Nothing here is taken from it but the equations and the numbers in them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from atomsml.nn.linear import GradedLinear, IrrepLinear, irrep_blocks
from atomsml.nn.sphere import on_grid
from atomsml.o3.s2_grid import S2Grid, all_components
from atomsml.ops.activation import SILU_GAIN, silu
from atomsml.ops.convolution import Edges
from atomsml.ops.graded_convolution import graded_convolve, graded_table
from atomsml.potentials.facet.config import FacetConfig
from atomsml.radial.bases import exponential_envelope

ENVELOPE_BEGINS, ENVELOPE_STEEPNESS = 0.8, 0.1  # of the cutoff; c
EPSILON = 1e-6  # of the layer norm


class BesselBasis(nn.Module):
    """2 / rc sin(w r) / r times the envelope, with learned w, which start as 1, 2, 3 ... per A."""

    def __init__(self, config: FacetConfig) -> None:
        super().__init__()
        self.cutoff = config.cutoff
        self.frequencies = nn.Parameter(torch.arange(1.0, config.num_bessel + 1))

    def forward(self, lengths: Tensor) -> Tensor:
        """(pairs,) lengths in A -> (pairs, num_bessel)."""
        envelope = exponential_envelope(lengths, self.cutoff, ENVELOPE_BEGINS, ENVELOPE_STEEPNESS)
        return torch.sin(self.frequencies * lengths[:, None]) * (2 / self.cutoff * envelope / lengths)[:, None]


class PerceptronLayer(nn.Module):
    """The interaction, the self-connection, and the norm with the residual; all bias-free."""

    def __init__(self, config: FacetConfig, channels_in: tuple[int, ...], channels_out: tuple[int, ...]) -> None:
        super().__init__()
        self.scale = config.avg_num_neighbors**-0.7
        self.table = graded_table(channels_in, config.lmax, len(channels_out) - 1, odd_paths=True)
        self.radial = nn.Parameter(torch.randn(config.num_bessel, self.table.num_weights))
        self.message = GradedLinear(self.table.channels_out, channels_out)
        self.own = GradedLinear(channels_in, channels_out)
        scalars_alone = len(channels_out) == 1
        self.self_connection = Perceptron(4 * channels_out) if scalars_alone else SphereConnection(config, channels_out)
        self.norm = ScalarsApartNorm(channels_out)

    def forward(self, blocks: Sequence[Tensor], harmonics: Tensor, basis: Tensor, edges: Edges) -> list[Tensor]:
        weights = basis @ self.radial * (glorot(self.radial) * self.scale)
        message = self.message(graded_convolve(blocks, harmonics, weights, edges, self.table))
        own = self.own(blocks)
        both = [a + b for a, b in zip(message, own, strict=False)] + message[len(own) :]
        update = self.norm(self.self_connection(both) if len(both) > 1 else [self.self_connection(both[0])])
        kept = [_resized(h, u.shape[2]) for h, u in zip(blocks, update, strict=False)]
        return [h + u for h, u in zip(kept, update, strict=False)] + update[len(kept) :]


class SphereConnection(nn.Module):
    """The perceptron at the points of a grid, between linear maps of each degree.

    All degrees come to have as many channels as l = 1; at every point the same perceptron acts on each of `num_heads`
    parts of them. Scalars also go around it.
    """

    def __init__(self, config: FacetConfig, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.lmax, self.num_heads, width = len(channels) - 1, config.num_heads, channels[1]
        scales = (1 / SILU_GAIN,) * (self.lmax + 1)
        self.grid = S2Grid(all_components(self.lmax), *config.grid, rule="equiangular", from_scales=scales)
        self.up = IrrepLinear(channels, width)
        of_head = width // config.num_heads
        self.points = Perceptron((of_head, config.pointwise_channels, of_head))
        self.down = GradedLinear((channels[0] + width, *[width] * self.lmax), channels)

    def forward(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """[(atoms, 2l + 1, channels[l])] -> the same."""
        scalars, *others = irrep_blocks(on_grid(self.up(blocks), self.grid, self._at_points), self.lmax)
        return self.down([torch.cat([blocks[0], scalars], dim=2), *others])

    def _at_points(self, values: Tensor) -> Tensor:
        return self.points.times_gain(values.unflatten(2, (self.num_heads, -1))).flatten(2)


class Perceptron(nn.Module):
    """Bias-free linear maps of the given widths, with SiLU after each, the last too."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b)) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        return self.times_gain(x) / SILU_GAIN

    def times_gain(self, x: Tensor) -> Tensor:
        """SILU_GAIN times the perceptron, as `silu` has it, for those who divide when there are fewer numbers."""
        gain = 1.0
        for weight in self.weights:
            x, gain = silu(x @ (weight * (glorot(weight) / gain))), SILU_GAIN
        return x


class ScalarsApartNorm(nn.Module):
    """Scalars less their mean over their standard deviation, all other components over their root mean square.

    The learned factor of each channel starts at zero, so that at first a layer is its residual alone.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.factors = nn.ParameterList(nn.Parameter(torch.zeros(c)) for c in channels)

    def forward(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """[(atoms, 2l + 1, channels[l])] -> the same."""
        scalars = blocks[0] - blocks[0].mean(dim=2, keepdim=True)
        if len(blocks) == 1:
            return [_over_its_size(scalars, scalars.flatten(1)) * self.factors[0]]
        others = torch.cat([x.flatten(1) for x in blocks[1:]], dim=1)
        normed = [_over_its_size(scalars, scalars.flatten(1)), *(_over_its_size(x, others) for x in blocks[1:])]
        return [x * factor for x, factor in zip(normed, self.factors, strict=True)]


def _over_its_size(x: Tensor, which: Tensor) -> Tensor:
    """x over the root mean square of the numbers (atoms, n) that count."""
    return x / ((which.square().mean(dim=1) + EPSILON).sqrt() + EPSILON)[:, None, None]


def _resized(x: Tensor, channels: int) -> Tensor:
    """The first channels, or all and zeros."""
    return pad(x[:, :, :channels], (0, max(channels - x.shape[2], 0)))


def glorot(weight: Tensor) -> float:
    """The standard deviation with which the paper's matrices begin (X. Glorot and Y. Bengio, AISTATS 2010, eq. 12)."""
    return math.sqrt(2 / sum(weight.shape))
