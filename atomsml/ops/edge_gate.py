"""Point-wise operations in the frames of edges, each in one pass over memory.

    scale    out[e, k, c] = x[e, k, c] s[row[e], of[k], c]
    gate     out[e, k, c] = 2 x[e, k, c] sigmoid(x[e, l(k), c])

In the frame of an edge the components of order m = 0 are invariant under all that leaves the edge as it is, so any
function may act on them: here they become gates, each of its own degree l(k), of which row l is the component m = 0.
`of[k]` says which row of s multiplies component k.

Shapes: x and out (edges, components, channels), s (rows, scales, channels). On CPU compiled kernels do it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from llvmlite.ir import Value
from torch import Tensor

from atomsml.ops.vector_code import I64, Code, Kernel, whole_vectors


def scale(x: Tensor, s: Tensor, row: Tensor, of: tuple[int, ...]) -> Tensor:
    """`scale` of the module docstring; any order of derivative."""
    if x.device.type != "cpu":
        return x * s[row][:, torch.tensor(of, device=s.device)]
    dtype = torch.promote_types(torch.promote_types(x.dtype, s.dtype), torch.float32)
    out: Tensor = _Scale.apply(x.to(dtype), s.to(dtype), row, of)
    return out


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

        def vectors(c: Value, _: list[Value]) -> list[Value]:
            for q in range(scales):
                at = code.builder.gep(s, [code.builder.add(c, I64(q * channels))])
                total = code.load(at, 0)
                for k in (k for k, wanted in enumerate(of) if wanted == q):
                    places = [code.builder.gep(array, [code.builder.add(c, I64(k * channels))]) for array in (x, y)]
                    if kind == "scale":
                        code.store(code.mul(code.load(places[0], 0), total), places[1], 0)
                    else:
                        total = code.fma(code.load(places[0], 0), code.load(places[1], 0), total)
                if kind == "sums":
                    code.store(total, at, 0)
            return []

        code.loop(I64(0), I64(channels), vectors, step=code.lanes)
        return []

    code.loop(I64(0), code["edges"], edge)
    return code.finish()


def gate(x: Tensor, degrees: tuple[int, ...]) -> Tensor:
    """`gate` of the module docstring; `degrees` l(k) of the components, of which the first are those of m = 0.

    On a CPU its kernels refuse third derivatives.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return 2 * x * torch.sigmoid(x[:, : max(degrees) + 1])[:, torch.tensor(degrees, device=x.device)]
    out: Tensor = _Gate.apply(x, degrees)
    return out


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
    """With f = 2 sigmoid of component 0, the one of order m = 0, and sums over the components k of its degree:

    forward            out_k = f x_k
    backward           out_k = f g_k + [k = 0] f' sum_k g_k x_k
    double backward    by_g_k = f v_k + v_0 f' x_k
                       by_x_k = v_0 f' g_k + [k = 0] (f' sum_k v_k g_k + v_0 f'' sum_k g_k x_k)
    """
    names = {"forward": ["x", "out"], "backward": ["x", "g", "out"]}
    names["double_backward"] = ["x", "g", "v", "by_g", "by_x"]
    code = Code(f"gate_{kind}", ["s", *names[kind]], ["edges"], dtype)
    b, two = code.builder, code.constant(2.0)

    def edge(e: Value, _: list[Value]) -> list[Value]:
        rows = {name: code.row(code[name], e, len(degrees) * channels) for name in names[kind]}
        gates = code.row(code["s"], e, (max(degrees) + 1) * channels)

        def vectors(c: Value, _: list[Value]) -> list[Value]:
            def at(pointer: Value, k: int) -> Value:
                return b.gep(pointer, [b.add(c, I64(k * channels))])

            def dot(one: list[Value], other: list[Value]) -> Value:
                total = None
                for x, y in zip(one, other, strict=True):
                    total = code.fma(x, y, total)
                return total

            for l in range(max(degrees) + 1):
                of_degree = [k for k, degree in enumerate(degrees) if degree == l]

                def load(name: str, of_degree: list[int] = of_degree) -> list[Value]:
                    return [code.load(at(rows[name], k), 0) for k in of_degree]

                def store(values: list[Value], name: str, of_degree: list[int] = of_degree) -> None:
                    for k, value in zip(of_degree, values, strict=True):
                        code.store(value, at(rows[name], k), 0)

                s, x = code.load(at(gates, l), 0), load("x")
                f = code.mul(two, s)
                if kind == "forward":
                    store([code.mul(f, x_k) for x_k in x], "out")
                    continue
                rest = b.fsub(code.constant(1.0), s)
                slope, g = code.mul(f, rest), load("g")
                overlap = dot(g, x)
                if kind == "backward":
                    out = [code.mul(f, g_k) for g_k in g]
                    store([code.fma(slope, overlap, out[0]), *out[1:]], "out")
                    continue
                v = load("v")
                bend, along = code.mul(slope, b.fsub(rest, s)), code.mul(v[0], slope)
                store([code.fma(f, v_k, code.mul(along, x_k)) for v_k, x_k in zip(v, x, strict=True)], "by_g")
                first = code.fma(slope, dot(v, g), code.mul(code.mul(v[0], bend), overlap))
                by_x = [code.mul(along, g_k) for g_k in g]
                store([code.add(by_x[0], first), *by_x[1:]], "by_x")
            return []

        code.loop(I64(0), I64(channels), vectors, step=code.lanes)
        return []

    code.loop(I64(0), code["edges"], edge)
    return code.finish()
