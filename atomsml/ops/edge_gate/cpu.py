"""CPU kernels of the point-wise operations in the frames of edges: one edge and one vector of channels at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.machine import whole_vectors
from atomsml.codegen.values import Value, dot, fma


def scale(x: Tensor, s: Tensor, row: Tensor, of: tuple[int, ...]) -> Tensor:
    """`scale` of operation.py."""
    x_vectors, s_vectors = whole_vectors(x), whole_vectors(s)
    out = torch.empty_like(x_vectors)
    _scale_kernel("scale", of, s.shape[1], x_vectors.shape[2], x.dtype)([row, x_vectors, s_vectors, out], len(x))
    return out[..., : x.shape[2]]


def scale_sums(x: Tensor, y: Tensor, row: Tensor, of: tuple[int, ...], rows: int, scales: int) -> Tensor:
    """out[r, q, c] = sum of x[e, k, c] y[e, k, c] over the edges with row[e] = r and the components with of[k] = q."""
    x_vectors, y_vectors = whole_vectors(x), whole_vectors(y)
    out = x_vectors.new_zeros(rows, scales, x_vectors.shape[2])
    _scale_kernel("sums", of, scales, x_vectors.shape[2], x.dtype)([row, x_vectors, out, y_vectors], len(x))
    return out[..., : x.shape[2]]


@built_once
def _scale_kernel(kind: str, of: tuple[int, ...], scales: int, channels: int, dtype: torch.dtype) -> Kernel:
    code = Code(kind, ["row_index", "x", "s", "y"], ["edges"], dtype)

    def edge(e: Value) -> None:
        s = code["s"].row(code["row_index"][e], scales * channels)
        x, y = (code[name].row(e, len(of) * channels) for name in ("x", "y"))

        def vector_of_channels(c: Value) -> None:
            s_c, x_c, y_c = (array + c for array in (s, x, y))
            for q in range(scales):
                places = [k * channels for k, wanted in enumerate(of) if wanted == q]
                factor = so_far = code.load(s_c, q * channels)
                for place in places:
                    if kind == "scale":
                        code.store(code.load(x_c, place) * factor, y_c, place)
                    else:
                        so_far = fma(code.load(x_c, place), code.load(y_c, place), so_far)
                if kind == "sums":
                    code.store(so_far, s_c, q * channels)

        code.loop(0, channels, vector_of_channels, step=code.lanes)

    code.loop(0, code.counts["edges"], edge)
    return code.finish()


def gate(s: Tensor, x: Tensor, degrees: tuple[int, ...]) -> Tensor:
    """`gate` of operation.py, s = sigmoid(x) of the components of order m = 0."""
    return _run_gate("forward", degrees, 1, s, x)[0]


def gate_backward(g: Tensor, s: Tensor, x: Tensor, degrees: tuple[int, ...]) -> Tensor:
    """Gradient of sum(g * out) with respect to x."""
    return _run_gate("backward", degrees, 1, s, x, g)[0]


def gate_double_backward(v: Tensor, g: Tensor, s: Tensor, x: Tensor, degrees: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Gradients of sum(v * gate_backward) with respect to g and x."""
    return _run_gate("double_backward", degrees, 2, s, x, g, v)


def _run_gate(kind: str, degrees: tuple[int, ...], outputs: int, s: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    arrays = [whole_vectors(x) for x in (s, *inputs)]
    out = [torch.empty_like(arrays[1]) for _ in range(outputs)]
    _gate_kernel(kind, degrees, arrays[0].shape[2], s.dtype)([*arrays, *out], len(s))
    return tuple(x[..., : inputs[0].shape[2]] for x in out)


@built_once
def _gate_kernel(kind: str, degrees: tuple[int, ...], channels: int, dtype: torch.dtype) -> Kernel:
    inputs = {"forward": ["x"], "backward": ["x", "g"], "double_backward": ["x", "g", "v"]}[kind]
    outputs = {"forward": ["out"], "backward": ["by_x"], "double_backward": ["by_g", "by_x"]}[kind]
    code = Code(f"gate_{kind}", ["s", *inputs, *outputs], ["edges"], dtype)

    def edge(e: Value) -> None:
        gates = code["s"].row(e, (max(degrees) + 1) * channels)
        rows = [code[name].row(e, len(degrees) * channels) for name in (*inputs, *outputs)]

        def vector_of_channels(c: Value) -> None:
            s, *arrays = (array + c for array in (gates, *rows))
            for l in range(max(degrees) + 1):
                places = [k * channels for k, degree in enumerate(degrees) if degree == l]
                given = [[code.load(array, place) for place in places] for array in arrays[: len(inputs)]]
                found = GATES[kind](code.load(s, l * channels), *given)
                for array, values in zip(arrays[len(inputs) :], found, strict=True):
                    for place, value in zip(places, values, strict=True):
                        code.store(value, array, place)

        code.loop(0, channels, vector_of_channels, step=code.lanes)

    code.loop(0, code.counts["edges"], edge)
    return code.finish()


# With f = 2 s of a degree, s = sigmoid(x_0), and sums over its components k, of which the first has m = 0:


def _gate_forward(s: Value, x: list[Value]) -> list[list[Value]]:
    """out_k = f x_k"""
    f = 2.0 * s
    return [[f * x_k for x_k in x]]


def _gate_backward(s: Value, x: list[Value], g: list[Value]) -> list[list[Value]]:
    """by_x_k = f g_k + [k = 0] f' sum_k g_k x_k"""
    f, slope, _ = _values_and_slopes(s)
    first, *others = (f * g_k for g_k in g)
    return [[fma(slope, _dot(g, x), first), *others]]


def _gate_double_backward(s: Value, x: list[Value], g: list[Value], v: list[Value]) -> list[list[Value]]:
    """by_g_k = f v_k + v_0 f' x_k, by_x_k = v_0 f' g_k + [k = 0] (f' sum_k v_k g_k + v_0 f'' sum_k g_k x_k)"""
    f, slope, bend = _values_and_slopes(s)
    along = v[0] * slope
    by_g = [fma(f, v_k, along * x_k) for v_k, x_k in zip(v, x, strict=True)]
    first, *others = (along * g_k for g_k in g)
    first = fma(v[0] * bend, _dot(g, x), fma(slope, _dot(v, g), first))
    return [by_g, [first, *others]]


def _values_and_slopes(s: Value) -> tuple[Value, Value, Value]:
    """f = 2 s, f' = f (1 - s), f'' = f' (1 - 2 s)."""
    f, rest = 2.0 * s, 1.0 - s
    slope = f * rest
    return f, slope, slope * (rest - s)


def _dot(a: list[Value], b: list[Value]) -> Value:
    return dot(zip(a, b, strict=True))


GATES: dict[str, Callable[..., list[list[Value]]]] = {
    "forward": _gate_forward,
    "backward": _gate_backward,
    "double_backward": _gate_double_backward,
}
