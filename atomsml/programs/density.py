"""CPU kernels of the learned density that normalises messages: s = 1 / (1 + sum over edges of d(r)), A = s M.

Of an atom with the gradient g of its normalised message A, the gradient of the raw message M is s g, and that of the
density -s (g . A), which goes to the lengths of its edges with the slopes of d. d is tabulated as in
tabulated_convolution_cpu.py, in one column.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import DOUBLE, Value, dot, total
from atomsml.programs.edges import WEIGHTS, EdgeArrays
from atomsml.programs.plan import Array, Count, Plan
from atomsml.programs.tabulated_convolution import RadialRows


def normalize(
    plan: Plan,
    edges: EdgeArrays,
    density: RadialRows,
    message: Array,
    scale: Tensor,
    first: int | Count,
    last: int | Count,
) -> None:
    """message (atoms, ...), of which the first is in slot `first`, becomes s M, and scale (slots,) becomes s."""
    _add(plan, "forward", edges, density, [message, scale], message.shape[1:].numel(), first, last)


def pull_back(
    plan: Plan,
    edges: EdgeArrays,
    density: RadialRows,
    message: Array,
    scale: Tensor,
    gradient: Array,
    first: int | Count,
    last: int | Count,
) -> None:
    """gradient, of normalised messages, becomes that of raw ones; edges.gradient of the lengths is added to."""
    arrays = [message, scale, gradient, edges.gradient]
    _add(plan, "backward", edges, density, arrays, message.shape[1:].numel(), first, last)


def _add(
    plan: Plan,
    kind: str,
    edges: EdgeArrays,
    density: RadialRows,
    arrays: list[Array],
    size: int,
    first: int | Count,
    last: int | Count,
) -> None:
    given = [edges.begin, edges.end, edges.kind, edges.piece, density.start, edges.weights, density.values]
    kernel = _kernel(kind, size, edges.harmonics.shape[1], edges.harmonics.dtype)
    plan.add(kernel, [*given, *arrays], first, last)


@built_once
def _kernel(kind: str, size: int, harmonics: int, dtype: torch.dtype) -> Kernel:
    indices = [f"{name}_index" for name in ("begin", "end", "kind", "piece", "start")]
    names = {"forward": ["message", "scale"], "backward": ["message", "scale", "gradient", "edge_gradient"]}[kind]
    code = Code(f"density_{kind}", [*indices, "weights", "density", *names], ["first", "last"], dtype)

    def edge_density(e: Value, slope: bool) -> Value:
        row = code["start_index"][code["kind_index"][e]] + code["piece_index"][e]
        weights = code["weights"].row(e, 2 * WEIGHTS).doubles(2 * WEIGHTS)[slope * WEIGHTS :]
        columns = [code["density"][(row + i) * code.lanes].to(DOUBLE) for i in range(WEIGHTS)]
        return total(w * x for w, x in zip(weights, columns, strict=False))

    def atom(t: Value) -> None:
        begin, end = code["begin_index"][t], code["end_index"][t]
        message = code["message"].row(t - code.counts["first"], size)
        if kind == "forward":
            (density,) = code.loop(begin, end, lambda e, x: [x + edge_density(e, False)], [code.double(1.0)])
            code["scale"][t] = 1.0 / density
            scale = code.splat(code["scale"], t)
            for c in range(0, size, code.lanes):
                code.store(scale * code.load(message, c), message, c)
            return
        gradient = code["gradient"].row(t - code.counts["first"], size)
        scale = code.splat(code["scale"], t)
        pairs = []
        for c in range(0, size, code.lanes):
            g = code.load(gradient, c)
            pairs.append((g, code.load(message, c)))
            code.store(scale * g, gradient, c)
        along = dot(pairs)
        by_density = -(total(along.lane(i).to(DOUBLE) for i in range(code.lanes)) * code["scale"][t].to(DOUBLE))

        def add_slope(e: Value) -> None:
            place = e * harmonics
            before = code["edge_gradient"][place].to(DOUBLE)
            code["edge_gradient"][place] = before + by_density * edge_density(e, True)

        code.loop(begin, end, add_slope)

    code.loop(code.counts["first"], code.counts["last"], atom)
    return code.finish()
