"""Point-wise operations in the frames of edges, each in one pass over memory.

    scale    out[e, k, c] = x[e, k, c] s[row[e], of[k], c]
    gate     out[e, k, c] = 2 x[e, k, c] sigmoid(x[e, l(k), c])

In the frame of an edge the components of order m = 0 are invariant under all that leaves the edge as it is, so any
function may act on them: here they become gates, each of its own degree l(k), of which row l is the component m = 0.
`of[k]` says which row of s multiplies component k.

Shapes: x and out (edges, components, channels), s (rows, scales, channels). On CPU compiled kernels do it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from llvmlite.ir import Value
from torch import Tensor

from atomsml.codegen.vectors import I64, Code, Kernel, whole_vectors
from atomsml.device import constant_index


def scale(x: Tensor, s: Tensor, row: Tensor, of: tuple[int, ...]) -> Tensor:
    """`scale` of the module docstring; any order of derivative."""
    if x.device.type != "cpu":
        return scale_reference(x, s, row, of)
    dtype = torch.promote_types(torch.promote_types(x.dtype, s.dtype), torch.float32)
    out: Tensor = _Scale.apply(x.to(dtype), s.to(dtype), row.contiguous(), of)
    return out


def scale_reference(x: Tensor, s: Tensor, row: Tensor, of: tuple[int, ...]) -> Tensor:
    return x * s[row][:, constant_index(of, s.device)]


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, s: Tensor, row: Tensor, of: tuple[int, ...]) -> Tensor:
        x_vectors, s_vectors = whole_vectors(x), whole_vectors(s)
        out = torch.empty_like(x_vectors)
        _scale_kernel("scale", of, s.shape[1], x_vectors.shape[2], x.dtype)([row, x_vectors, s_vectors, out], len(x))
        return out[..., : x.shape[2]]

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
    """out[r, q, c] = sum of x[e, k, c] y[e, k, c] over the edges with row[e] = r and the components with of[k] = q."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, row: Tensor, of: tuple[int, ...], rows: int, scales: int) -> Tensor:
        x_vectors, y_vectors = whole_vectors(x), whole_vectors(y)
        out = x_vectors.new_zeros(rows, scales, x_vectors.shape[2])
        _scale_kernel("sums", of, scales, x_vectors.shape[2], x.dtype)([row, x_vectors, out, y_vectors], len(x))
        return out[..., : x.shape[2]]

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


@lru_cache
def _scale_kernel(kind: str, of: tuple[int, ...], scales: int, channels: int, dtype: torch.dtype) -> Kernel:
    code = Code(kind, ["row_index", "x", "s", "y"], ["edges"], dtype)

    def edge(e: Value, _: list[Value]) -> list[Value]:
        s = code.row(code["s"], code.integer(code["row_index"], e), scales * channels)
        x, y = (code.row(code[name], e, len(of) * channels) for name in ("x", "y"))

        def vector_of_channels(c: Value, _: list[Value]) -> list[Value]:
            s_c, x_c, y_c = (code.builder.gep(pointer, [c]) for pointer in (s, x, y))
            for q in range(scales):
                total = code.load(s_c, q * channels)
                for place in (k * channels for k, wanted in enumerate(of) if wanted == q):
                    if kind == "scale":
                        code.store(code.mul(code.load(x_c, place), total), y_c, place)
                    else:
                        total = code.fma(code.load(x_c, place), code.load(y_c, place), total)
                if kind == "sums":
                    code.store(total, s_c, q * channels)
            return []

        return code.loop(I64(0), I64(channels), vector_of_channels, step=code.lanes)

    code.loop(I64(0), code["edges"], edge)
    return code.finish()


def gate(x: Tensor, degrees: tuple[int, ...]) -> Tensor:
    """`gate` of the module docstring; `degrees` l(k) of the components, of which the first are those of m = 0.

    On a CPU its kernels refuse third derivatives.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
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
        return _run_gate("forward", degrees, 1, s, x)[0]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _GateBackward.apply(g, *ctx.saved_tensors, ctx.degrees), None


class _GateBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, s: Tensor, degrees: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(g, x, s)
        ctx.degrees = degrees
        return _run_gate("backward", degrees, 1, s, x, g)[0]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None]:
        g, x, s = ctx.saved_tensors
        by_g, by_x = _GateDoubleBackward.apply(v, g, x, s, ctx.degrees)
        return by_g, by_x, None, None


class _GateDoubleBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, x: Tensor, s: Tensor, degrees: tuple[int, ...]) -> tuple[Tensor, ...]:
        return _run_gate("double_backward", degrees, 2, s, x, g, v)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError("the kernels of gate have no third derivatives")


def _run_gate(kind: str, degrees: tuple[int, ...], outputs: int, s: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    arrays = [whole_vectors(x) for x in (s, *inputs)]
    out = [torch.empty_like(arrays[1]) for _ in range(outputs)]
    _gate_kernel(kind, degrees, arrays[0].shape[2], s.dtype)([*arrays, *out], len(s))
    return tuple(x[..., : inputs[0].shape[2]] for x in out)


@lru_cache
def _gate_kernel(kind: str, degrees: tuple[int, ...], channels: int, dtype: torch.dtype) -> Kernel:
    inputs = {"forward": ["x"], "backward": ["x", "g"], "double_backward": ["x", "g", "v"]}[kind]
    outputs = {"forward": ["out"], "backward": ["by_x"], "double_backward": ["by_g", "by_x"]}[kind]
    code = Code(f"gate_{kind}", ["s", *inputs, *outputs], ["edges"], dtype)

    def edge(e: Value, _: list[Value]) -> list[Value]:
        gates = code.row(code["s"], e, (max(degrees) + 1) * channels)
        rows = [code.row(code[name], e, len(degrees) * channels) for name in (*inputs, *outputs)]

        def vector_of_channels(c: Value, _: list[Value]) -> list[Value]:
            s, *arrays = (code.builder.gep(pointer, [c]) for pointer in (gates, *rows))
            for l in range(max(degrees) + 1):
                places = [k * channels for k, degree in enumerate(degrees) if degree == l]
                given = [[code.load(array, place) for place in places] for array in arrays[: len(inputs)]]
                found = GATES[kind](code, code.load(s, l * channels), *given)
                for array, values in zip(arrays[len(inputs) :], found, strict=True):
                    for place, value in zip(places, values, strict=True):
                        code.store(value, array, place)
            return []

        return code.loop(I64(0), I64(channels), vector_of_channels, step=code.lanes)

    code.loop(I64(0), code["edges"], edge)
    return code.finish()


# With f = 2 s of a degree, s = sigmoid(x_0), and sums over its components k, of which the first has m = 0:


def _gate_forward(code: Code, s: Value, x: list[Value]) -> list[list[Value]]:
    """out_k = f x_k"""
    f = code.mul(code.constant(2.0), s)
    return [[code.mul(f, x_k) for x_k in x]]


def _gate_backward(code: Code, s: Value, x: list[Value], g: list[Value]) -> list[list[Value]]:
    """by_x_k = f g_k + [k = 0] f' sum_k g_k x_k"""
    f, slope, _ = _values_and_slopes(code, s)
    first, *others = (code.mul(f, g_k) for g_k in g)
    return [[code.fma(slope, _dot(code, g, x), first), *others]]


def _gate_double_backward(code: Code, s: Value, x: list[Value], g: list[Value], v: list[Value]) -> list[list[Value]]:
    """by_g_k = f v_k + v_0 f' x_k, by_x_k = v_0 f' g_k + [k = 0] (f' sum_k v_k g_k + v_0 f'' sum_k g_k x_k)"""
    f, slope, bend = _values_and_slopes(code, s)
    along = code.mul(v[0], slope)
    by_g = [code.fma(f, v_k, code.mul(along, x_k)) for v_k, x_k in zip(v, x, strict=True)]
    first, *others = (code.mul(along, g_k) for g_k in g)
    first = code.fma(code.mul(v[0], bend), _dot(code, g, x), code.fma(slope, _dot(code, v, g), first))
    return [by_g, [first, *others]]


def _values_and_slopes(code: Code, s: Value) -> tuple[Value, Value, Value]:
    """f = 2 s, f' = f (1 - s), f'' = f' (1 - 2 s)."""
    f, rest = code.mul(code.constant(2.0), s), code.builder.fsub(code.constant(1.0), s)
    slope = code.mul(f, rest)
    return f, slope, code.mul(slope, code.builder.fsub(rest, s))


def _dot(code: Code, a: list[Value], b: list[Value]) -> Value:
    total = None
    for x, y in zip(a, b, strict=True):
        total = code.fma(x, y, total)
    return total


GATES: dict[str, Callable[..., list[list[Value]]]] = {
    "forward": _gate_forward,
    "backward": _gate_backward,
    "double_backward": _gate_double_backward,
}
