"""Linear layers in the frame of an edge, which commute with rotations about it.

Features x of order m there are pairs (x_m, x_-m), which a rotation about the edge mixes like the real and imaginary
part of a complex number. What commutes with it is multiplication by complex numbers: for each m > 0

    [y_m ]   [A  -B] [x_m ]
    [y_-m] = [B   A] [x_-m],

and any matrix for m = 0 (S. Passaro and C. L. Zitnick, arXiv:2302.03655, section on SO(2) convolutions). A mirror plane
through the edge changes the sign of x_-m where features have natural parity: B = 0 commutes with it as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atomsml.nn.edge_frame import edge_components
from atomsml.ops.edge_gate import scale


class SO2Linear(nn.Module):
    """One matrix for each order m = 0 ... mmax, over all degrees and channels of that order.

    Args:
        parity: keep the natural parity of features, by B = 0; else the layer is equivariant to rotations alone.
        scalars: how many numbers of order 0 come out besides, see `with_scalars`.
        bias: add a learned constant to all that has order 0.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        lmax: int,
        mmax: int,
        parity: bool = True,
        scalars: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.lmax, self.mmax, self.scalars = lmax, mmax, scalars
        degrees = [lmax + 1 - m for m in range(mmax + 1)]
        self.num_scales = sum(degrees)  # pairs (l, m >= 0)
        pairs = [(l, m) for m in range(mmax + 1) for l in range(m, lmax + 1)]
        self._scale_of_component = tuple(pairs.index((l, abs(m))) for l, m in edge_components(lmax, mmax))
        widths = [n * channels_out + (scalars if m == 0 else 0) for m, n in enumerate(degrees)]
        self.real = nn.ParameterList(
            nn.Parameter(torch.randn(n * channels_in, width)) for n, width in zip(degrees, widths, strict=True)
        )
        self.bias = nn.Parameter(torch.zeros(widths[0])) if bias else None
        self.imaginary = nn.ParameterList(
            nn.Parameter(torch.randn(n * channels_in, n * channels_out)) for n in degrees[1:] if not parity
        )

    def forward(self, x: Tensor, scales: Tensor | None = None, row: Tensor | None = None) -> Tensor:
        """(edges, rows of `edge_components`, channels_in) -> the same with channels_out.

        `scales` (edges, num_scales, channels_in) multiply x before: one for each pair (l, m >= 0), in the order of m,
        then l. That is how radial functions enter. With `row` (edges,) those of edge e are scales[row[e]].
        """
        return self.with_scalars(x, scales, row)[0]

    def with_scalars(self, x: Tensor, scales: Tensor | None = None, row: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `forward` returns, and (edges, scalars): they have features of all degrees to come from."""
        if scales is not None:
            own = torch.arange(len(x), device=x.device) if row is None else row
            x = scale(x, scales, own, self._scale_of_component)
        mapped = multiply_blocks(x.flatten(1), *self._blocks())
        if self.bias is not None:
            mapped = mapped + nn.functional.pad(self.bias, (0, mapped.shape[1] - len(self.bias)))
        return mapped[:, self.scalars :].unflatten(1, (x.shape[1], -1)), mapped[:, : self.scalars]

    def _blocks(self) -> tuple[list[Tensor], list[float]]:
        """Matrices of the rows of order 0, 1, -1, 2, -2 ..., or of 0, 1 and -1, 2 and -2 ..., and what scales them."""
        zero, *real = self.real
        if not self.imaginary:
            blocks = [zero, *[a for a in real for _ in ("+m", "-m")]]
        else:
            pairs = zip(real, self.imaginary, strict=True)
            blocks = [zero, *[torch.cat([torch.cat([a, b], dim=1), torch.cat([-b, a], dim=1)]) for a, b in pairs]]
        return blocks, [1 / math.sqrt(len(block)) for block in blocks]


def multiply_blocks(x: Tensor, blocks: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """Rows of numbers times a block-diagonal matrix, whose blocks are multiplied by `factors`.

    (n, heights of all blocks) -> (n, widths of all blocks). Each product is written to its place: nothing is cut out or
    put together. Any order of derivative.
    """
    out: Tensor = _MultiplyBlocks.apply(x, tuple(factors), *blocks)
    return out


class _MultiplyBlocks(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, factors: tuple[float, ...], *blocks: Tensor) -> Tensor:
        out = x.new_empty(len(x), sum(block.shape[1] for block in blocks))
        parts, places = x.split([len(b) for b in blocks], dim=1), out.split([b.shape[1] for b in blocks], dim=1)
        for part, place, block, factor in zip(parts, places, blocks, factors, strict=True):
            torch.addmm(place, part, block, beta=0, alpha=factor, out=place)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.factors, *blocks = inputs
        ctx.save_for_backward(x, *blocks)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, *blocks = ctx.saved_tensors
        by_x, by_blocks = None, [None] * len(blocks)
        if ctx.needs_input_grad[0]:
            by_x = _MultiplyBlocks.apply(g, ctx.factors, *[block.mT for block in blocks])
        if any(ctx.needs_input_grad[2:]):
            by_blocks = _BlockProducts.apply(x, g, ctx.factors, tuple(block.shape for block in blocks))
        return by_x, None, *by_blocks


class _BlockProducts(torch.autograd.Function):
    """The blocks of x^T y: the other derivative of `multiply_blocks`, whose own lead back to it."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, factors: tuple[float, ...], shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
        heights, widths = ([shape[i] for shape in shapes] for i in (0, 1))
        out = [x.new_empty(shape) for shape in shapes]
        for a, b, factor, place in zip(x.split(heights, dim=1), y.split(widths, dim=1), factors, out, strict=True):
            torch.addmm(place, a.T, b, beta=0, alpha=factor, out=place)
        return tuple(out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, y, ctx.factors, _ = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        by_x = _MultiplyBlocks.apply(y, ctx.factors, *[block.mT for block in g]) if ctx.needs_input_grad[0] else None
        by_y = _MultiplyBlocks.apply(x, ctx.factors, *g) if ctx.needs_input_grad[1] else None
        return by_x, by_y, None, None
