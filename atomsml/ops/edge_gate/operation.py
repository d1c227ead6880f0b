"""Point-wise operations in the frames of edges, each in one pass over memory.

    scale    out[e, k, c] = x[e, k, c] s[row[e], of[k], c]
    gate     out[e, k, c] = 2 x[e, k, c] sigmoid(x[e, l(k), c])

In the frame of an edge the components of order m = 0 are invariant under all that leaves the edge as it is, so any
function may act on them: here they become gates, each of its own degree l(k), of which row l is the component m = 0.
`of[k]` says which row of s multiplies component k.

Shapes: x and out (edges, components, channels), s (rows, scales, channels). On CPU compiled kernels do it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from atomsml.device import constant_index
from atomsml.ops.dispatch import kernels

_kernels = partial(kernels, "edge_gate")


def scale(x: Tensor, s: Tensor, row: Tensor, of: tuple[int, ...]) -> Tensor:
    """`scale` of the module docstring; any order of derivative."""
    if _kernels(x.device) is None:
        return scale_reference(x, s, row, of)
    dtype = torch.promote_types(torch.promote_types(x.dtype, s.dtype), torch.float32)
    out: Tensor = _Scale.apply(x.to(dtype), s.to(dtype), row.contiguous(), of)
    return out


def scale_reference(x: Tensor, s: Tensor, row: Tensor, of: tuple[int, ...]) -> Tensor:
    return x * s[row][:, constant_index(of, s.device)]


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, s: Tensor, row: Tensor, of: tuple[int, ...]) -> Tensor:
        return _kernels(x.device).scale(x, s, row, of)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, s, row, ctx.of = inputs
        ctx.save_for_backward(x, s, row)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, s, row = ctx.saved_tensors
        by_x = _Scale.apply(g, s, row, ctx.of) if ctx.needs_input_grad[0] else None
        by_s = _ScaleSums.apply(g, x, row, ctx.of, *s.shape[:2]) if ctx.needs_input_grad[1] else None
        return by_x, by_s, None, None


class _ScaleSums(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, y: Tensor, row: Tensor, of: tuple[int, ...], rows: int, scales: int) -> Tensor:
        return _kernels(x.device).scale_sums(x, y, row, of, rows, scales)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, row, ctx.of, _, _ = inputs
        ctx.save_for_backward(x, y, row)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, y, row = ctx.saved_tensors
        by_x = _Scale.apply(y, g, row, ctx.of) if ctx.needs_input_grad[0] else None
        by_y = _Scale.apply(x, g, row, ctx.of) if ctx.needs_input_grad[1] else None
        return by_x, by_y, None, None, None, None


def gate(x: Tensor, degrees: tuple[int, ...]) -> Tensor:
    """`gate` of the module docstring; `degrees` l(k) of the components, of which the first are those of m = 0.

    On a CPU its kernels refuse third derivatives.
    """
    if _kernels(x.device) is None or x.dtype not in (torch.float32, torch.float64):
        return gate_reference(x, degrees)
    out: Tensor = _Gate.apply(x, degrees)
    return out


def gate_reference(x: Tensor, degrees: tuple[int, ...]) -> Tensor:
    return 2 * x * torch.sigmoid(x[:, : max(degrees) + 1])[:, constant_index(degrees, x.device)]


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, degrees: tuple[int, ...]) -> Tensor:
        s = torch.sigmoid(x[:, : max(degrees) + 1])
        ctx.save_for_backward(x, s)
        ctx.degrees = degrees
        return _kernels(x.device).gate(s, x, degrees)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _GateBackward.apply(g, *ctx.saved_tensors, ctx.degrees), None


class _GateBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, s: Tensor, degrees: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(g, x, s)
        ctx.degrees = degrees
        return _kernels(x.device).gate_backward(g, s, x, degrees)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None]:
        g, x, s = ctx.saved_tensors
        by_g, by_x = _GateDoubleBackward.apply(v, g, x, s, ctx.degrees)
        return by_g, by_x, None, None


class _GateDoubleBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, x: Tensor, s: Tensor, degrees: tuple[int, ...]) -> tuple[Tensor, ...]:
        return _kernels(x.device).gate_double_backward(v, g, s, x, degrees)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError("the kernels of gate have no third derivatives")
