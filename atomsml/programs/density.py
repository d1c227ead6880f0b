"""CPU kernels of the learned density that normalises messages: s = 1 / (1 + sum over edges of d(r)), A = s M.

Of an atom with the gradient g of its normalised message A, the gradient of the raw message M is s g, and that of the
density -s (g . A), which goes to the lengths of its edges with the slopes of d. d is tabulated as in
tabulated_convolution_cpu.py, in one column.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from llvmlite.ir import Value
from torch import Tensor

from atomsml.codegen.numbers import Number, constant, load, store, total
from atomsml.codegen.vectors import I64, Code, Kernel
from atomsml.programs.edges import WEIGHTS, EdgeArrays
from atomsml.programs.plan import Plan
from atomsml.programs.tabulated_convolution import RadialRows


def normalize(
    plan: Plan, edges: EdgeArrays, density: RadialRows, message: Tensor, scale: Tensor, first: int, last: int
) -> None:
    """message (atoms, ...), of which the first is in slot `first`, becomes s M, and scale (slots,) becomes s."""
    _add(plan, "forward", edges, density, [message, scale], message.flatten(1).shape[1], first, last)


def pull_back(
    plan: Plan,
    edges: EdgeArrays,
    density: RadialRows,
    message: Tensor,
    scale: Tensor,
    gradient: Tensor,
    first: int,
    last: int,
) -> None:
    """gradient, of normalised messages, becomes that of raw ones; edges.gradient of the lengths is added to."""
    arrays = [message, scale, gradient, edges.gradient]
    _add(plan, "backward", edges, density, arrays, message.flatten(1).shape[1], first, last)


def _add(
    plan: Plan,
    kind: str,
    edges: EdgeArrays,
    density: RadialRows,
    arrays: list[Tensor],
    size: int,
    first: int,
    last: int,
) -> None:
    given = [edges.begin, edges.end, edges.kind, edges.piece, density.start, edges.weights, density.values]
    kernel = _kernel(kind, size, edges.harmonics.shape[1], arrays[0].dtype)
    plan.add(kernel, [*given, *arrays], first, last)


@lru_cache
def _kernel(kind: str, size: int, harmonics: int, dtype: torch.dtype) -> Kernel:
    indices = [f"{name}_index" for name in ("begin", "end", "kind", "piece", "start")]
    names = {"forward": ["message", "scale"], "backward": ["message", "scale", "gradient", "edge_gradient"]}[kind]
    code = Code(f"density_{kind}", [*indices, "weights", "density", *names], ["first", "last"], dtype)
    b = code.builder

    def edge_density(e: Value, slope: bool) -> Number:
        start = code.integer(code["start_index"], code.integer(code["kind_index"], e))
        row = b.add(start, code.integer(code["piece_index"], e))
        weights = load(code, "weights", e, 2 * WEIGHTS)[slope * WEIGHTS :]
        columns = [load(code, "density", code.times(b.add(row, I64(i)), code.lanes), 1)[0] for i in range(WEIGHTS)]
        return total((w * x for w, x in zip(weights, columns, strict=False)), code)

    def atom(t: Value, _: list[Value]) -> list[Value]:
        begin, end = (code.integer(code[name], t) for name in ("begin_index", "end_index"))
        row = b.sub(t, code["first"])
        message = code.row(code["message"], row, size)
        if kind == "forward":

            def add_density(e: Value, sums: list[Value]) -> list[Value]:
                return [(Number(code, sums[0]) + edge_density(e, False)).value]

            (density,) = code.loop(begin, end, add_density, [constant(code, 1.0).value])
            store([Number(code, density).inverse()], code, "scale", t)
            scale = code.splat(code.row(code["scale"], t, 1), 0)
            for c in range(0, size, code.lanes):
                code.store(code.mul(scale, code.load(message, c)), message, c)
            return []
        gradient, scale, dot = code.row(code["gradient"], row, size), code.splat(code.row(code["scale"], t, 1), 0), None
        for c in range(0, size, code.lanes):
            g = code.load(gradient, c)
            dot = code.fma(g, code.load(message, c), dot)
            code.store(code.mul(scale, g), gradient, c)
        lanes = [
            Number(code, b.fpext(x, constant(code, 0.0).value.type)) if code.bytes == 4 else Number(code, x)
            for x in (b.extract_element(dot, I64(i)) for i in range(code.lanes))
        ]
        by_density = -(total(lanes, code) * load(code, "scale", t, 1)[0])

        def add_slope(e: Value, _: list[Value]) -> list[Value]:
            place = code.times(e, harmonics)
            (before,) = load(code, "edge_gradient", place, 1)
            store([before + by_density * edge_density(e, True)], code, "edge_gradient", place)
            return []

        return code.loop(begin, end, add_slope)

    code.loop(code["first"], code["last"], atom)
    return code.finish()
