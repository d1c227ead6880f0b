"""The equivariant convolution for features whose number of channels falls with the degree.

NequIP and SevenNet keep many scalars and few tensors, such as 128 channels of l = 0, 64 of l = 1 and 32 of l = 2 (S.
Batzner et al., arXiv:2101.03164, "Methods"; Y. Park et al., arXiv:2402.03789). Each channel is convolved by itself: the
channels that end at the same degree form a slice with one lmax, and `ops.convolution.convolve` does slice after slice.

    channels (128, 64, 32)  =  32 channels of l <= 2, then 32 of l <= 1, then 64 of l = 0

| symbol | name | shape |
|---|---|---|
| h | blocks | for each l1: (atoms, 2 l1 + 1, channels[l1]) |
| Y | harmonics | (edges, (lmax + 1)^2) |
| R | weights | (rows, num_weights): slice by slice, in a slice path by path |
| out | | for each l3: (atoms, 2 l3 + 1, paths to l3 x their channels): slice by slice, in a slice path by path |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from atomsml.ops.convolution import ConvolutionTable, Edges, Path, convolution_table, convolve


@dataclass(frozen=True)
class ChannelSlice:
    """The channels `start` ... `stop` - 1, which exist for l <= table.lmax_in."""

    start: int
    stop: int
    table: ConvolutionTable

    @property
    def width(self) -> int:
        return self.stop - self.start

    @property
    def num_weights(self) -> int:
        return len(self.table.paths) * self.width


@dataclass(frozen=True)
class GradedTable:
    """The paths of one convolution of graded features."""

    channels: tuple[int, ...]
    slices: tuple[ChannelSlice, ...]

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """All paths (l1, l2, l3), ordered by l3, then l1, then l2."""
        return max((piece.table.paths for piece in self.slices), key=len)

    @cached_property
    def num_weights(self) -> int:
        return sum(piece.num_weights for piece in self.slices)

    @cached_property
    def channels_out(self) -> tuple[int, ...]:
        """Number of output channels of each l3."""
        degrees = range(1 + max(l3 for _, _, l3 in self.paths))
        return tuple(sum(self.channels[l1] for l1, _, end in self.paths if end == l3) for l3 in degrees)

    def weight_columns(self, path: Path) -> list[int]:
        """Where the weights of the channels of one path stand among `num_weights`."""
        found: list[int] = []
        start = 0
        for piece in self.slices:
            if path in piece.table.paths:
                first = start + piece.table.paths.index(path) * piece.width
                found += range(first, first + piece.width)
            start += piece.num_weights
        return found

    def out_columns(self, path: Path) -> list[int]:
        """Where the channels of one path stand among the output channels of its l3."""
        found: list[int] = []
        start = 0
        for piece in self.slices:
            same_end = [other for other in piece.table.paths if other[2] == path[2]]
            if path in same_end:
                first = start + same_end.index(path) * piece.width
                found += range(first, first + piece.width)
            start += len(same_end) * piece.width
        return found


@lru_cache
def graded_table(
    channels: tuple[int, ...], lmax: int, lmax_out: int, odd_paths: bool = False, lmin_in: int = 0
) -> GradedTable:
    """The natural-parity paths from features with `channels[l]` channels to l3 <= lmax_out <= lmax.

    With `odd_paths` also those of odd l1 + l2 + l3: SevenNet's mode without parity, equivariant to rotations alone.
    No path begins below degree `lmin_in`.

    Raises:
        ValueError: numbers of channels that rise with l, or an l3 that no path reaches from scalars.
    """
    if not channels or list(channels) != sorted(channels, reverse=True) or channels[-1] < 1:
        raise ValueError(f"channels must be positive and must not rise with the degree, got {channels}")
    if lmax_out > lmax:
        raise ValueError(f"lmax_out must be at most lmax = {lmax}, got {lmax_out}")
    slices, start = [], 0
    for lmax_in in reversed(range(len(channels))):
        if channels[lmax_in] > start:
            table = convolution_table(lmax_in, lmax, lmax_out, odd_paths, lmin_in)
            slices.append(ChannelSlice(start, channels[lmax_in], table))
        start = channels[lmax_in]
    return GradedTable(channels, tuple(slices))


def graded_convolve(
    blocks: Sequence[Tensor], harmonics: Tensor, weights: Tensor, edges: Edges, table: GradedTable
) -> list[Tensor]:
    """The convolution of the module docstring, one tensor for each l3."""
    of_slices = weights.split([piece.num_weights for piece in table.slices], dim=1)
    found: list[list[Tensor]] = [[] for _ in table.channels_out]
    for piece, mine in zip(table.slices, of_slices, strict=True):
        features = torch.cat([h[:, :, piece.start : piece.stop] for h in blocks[: piece.table.lmax_in + 1]], dim=1)
        out = convolve(features, harmonics, mine.unflatten(1, (-1, piece.width)), edges, piece.table)
        for l3, x in zip(piece.table.by_degree, out, strict=True):
            found[l3].append(x)
    return [torch.cat(x, dim=2) for x in found]
