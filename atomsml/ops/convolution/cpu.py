"""CPU kernels of the equivariant convolution: forward, backward and double backward.

Notation as in operation.py: h features, y harmonics, r weights, g the gradient of the output. Edges are sorted by
receiver, and the coefficients C know nothing of edges: they act once per receiver, after or before the loop over edges.

    forward     M(a, b) = sum over edges of h(a) r y(b)       out(o) = sum over a, b of C[a, b, o] M(a, b)
    backward    U(a, b) = sum over o of C[a, b, o] g(o)       q(a) = sum over b of U(a, b) y(b)
                grad_h(a) = r q(a)    grad_r = sum over a of h(a) q(a)    grad_y(b) = sum over a, c of h(a) r U(a, b)

The double backward differentiates sum(vh * grad_h) + sum(vy * grad_y) + sum(vr * grad_r) with respect to g, h, y, r.
A leading v marks these cotangents and what follows from them: qv is q with vy for y, xv = vh r + h vr.

    grad_g      as forward, with M(a, b) = sum over edges of xv(a) y(b) + h(a) r vy(b)
    the rest    grad_h(a) = r qv(a) + vr q(a)                 grad_r = sum over a of h(a) qv(a) + vh(a) q(a)
                grad_y(b) = sum over a, c of xv(a) U(a, b)

A kernel takes one receiver after the other, and for each of them one vector of channels after the other. Sums have a
fixed order: equal input gives equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.machine import lanes, whole_vectors
from atomsml.codegen.values import Value, dot, fma
from atomsml.ops.convolution.table import ConvolutionTable, Edges

EDGES_AHEAD = 3
Block = Callable[["Receiver"], None]


def forward(h: Tensor, y: Tensor, r: Tensor, edges: Edges, table: ConvolutionTable) -> list[Tensor]:
    channels = h.shape[2]
    h, y, r = whole_vectors(h), y.contiguous(), whole_vectors(r)
    out = [h.new_empty(len(h), 2 * l + 1, len(paths), h.shape[2]) for l, paths in table.by_degree.items()]
    _kernel("forward", table, h.shape[2], h.dtype)([*_indices(edges), h, y, r, *out], len(h))
    return [x[..., :channels] for x in out]


def backward(
    g: Sequence[Tensor], h: Tensor, y: Tensor, r: Tensor, edges: Edges, table: ConvolutionTable
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sum(g * out) with respect to h, y and r."""
    channels = h.shape[2]
    g, h, y, r = [whole_vectors(x) for x in g], whole_vectors(h), y.contiguous(), whole_vectors(r)
    grads = [torch.zeros_like(x) for x in (h, y, r)]
    arrays = [*_indices(edges), *g, h, y, r, _scratch(table, h.dtype), *grads]
    _kernel("backward", table, h.shape[2], h.dtype)(arrays, len(h))
    return grads[0][..., :channels], grads[1], grads[2][..., :channels]


def double_backward(
    vh: Tensor,
    vy: Tensor,
    vr: Tensor,
    g: Sequence[Tensor],
    h: Tensor,
    y: Tensor,
    r: Tensor,
    edges: Edges,
    table: ConvolutionTable,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Gradients of sum(vh * grad_h) + sum(vy * grad_y) + sum(vr * grad_r) with respect to g, h, y and r."""
    channels = h.shape[2]
    vh, vr, h, r = (whole_vectors(x) for x in (vh, vr, h, r))
    vy, y, g = vy.contiguous(), y.contiguous(), [whole_vectors(x) for x in g]
    grad_g, grads = [torch.empty_like(x) for x in g], [torch.zeros_like(x) for x in (h, y, r)]
    arrays = [*_indices(edges), *g, h, y, r, _scratch(table, h.dtype), vh, vy, vr, *grad_g, *grads]
    _kernel("double_backward", table, h.shape[2], h.dtype)(arrays, len(h))
    return [x[..., :channels] for x in grad_g], grads[0][..., :channels], grads[1], grads[2][..., :channels]


def _indices(edges: Edges) -> tuple[Tensor, Tensor, Tensor]:
    return edges.row_start, edges.sender, edges.weight_row


def _scratch(table: ConvolutionTable, dtype: torch.dtype) -> Tensor:
    """U of one receiver and one vector of channels."""
    return torch.empty(sum((2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in table.paths), lanes(dtype), dtype=dtype)


@built_once
def _kernel(kind: str, table: ConvolutionTable, channels: int, dtype: torch.dtype) -> Kernel:
    indices, operands, u = ["row_start_index", "sender_index", "weight_row_index"], ["h", "y", "r"], ["u"]
    out, g, grad_g = ([f"{name}{l}" for l in table.by_degree] for name in ("out", "g", "grad_g"))
    grads = ["grad_h", "grad_y", "grad_r"]
    names, blocks = {
        "forward": (indices + operands + out, [_sum_forward]),
        "backward": (indices + g + operands + u + grads, [pull_back, _backward_edges]),
        "double_backward": (
            indices + g + operands + u + ["vh", "vy", "vr"] + grad_g + grads,
            [pull_back, _double_backward_edges, _sum_double_backward],
        ),
    }[kind]
    code = Code(f"convolution_{kind}", names, ["atoms"], dtype)

    def receiver(n: Value) -> None:
        def vector_of_channels(c: Value) -> None:
            for block in blocks:
                block(Receiver(code, table, channels, n, c))

        code.loop(0, channels, vector_of_channels, step=code.lanes)

    code.loop(0, code.counts["atoms"], receiver)
    return code.finish()


class Receiver:
    """One receiver and one vector of channels: where things are."""

    def __init__(self, code: Code, table: ConvolutionTable, channels: int, n: Value, c: Value) -> None:
        self.code, self.table, self.channels, self.n, self.c = code, table, channels, n, c

    def rows(self, name: str) -> dict[int, Array]:
        """l3 -> this receiver in g or an output."""
        return {
            l: self.code[f"{name}{l}"].row(self.n, (2 * l + 1) * len(paths) * self.channels, self.c)
            for l, paths in self.table.by_degree.items()
        }

    def row_offset(self, p: int, o: int) -> int:
        """From there to component o of path p."""
        paths = self.table.by_degree[self.table.paths[p][2]]
        return (o * len(paths) + paths.index(p)) * self.channels

    def edges(self, body: Callable[..., Sequence[Value] | None], carried: Sequence[Value] = ()) -> list[Value]:
        first, last = self.code["row_start_index"][self.n], self.code["row_start_index"][self.n + 1]
        self.last = last - 1
        return self.code.loop(first, last, lambda e, *values: body(Edge(self, e), *values), carried)

    def prefetch(self, e: Value, names: Sequence[str]) -> None:
        """Ask for the weights of a later edge: they are scattered over more memory than the caches hold."""
        edge = Edge(self, self.last.least(e + EDGES_AHEAD))
        for name in names:
            for p in range(len(self.table.paths)):
                edge.r(name).prefetch(p * self.channels)

    def u_offset(self, p: int) -> int:
        return sum((2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in self.table.paths[:p]) * self.code.lanes


class Edge:
    """One edge into a receiver: its sender's features, its harmonics and its weights."""

    def __init__(self, receiver: Receiver, e: Value) -> None:
        code, table, channels = receiver.code, receiver.table, receiver.channels
        self.code, self.channels = code, channels
        self.sender, self.weight_row = code["sender_index"][e], code["weight_row_index"][e]
        self.e, self.c = e, receiver.c
        self.features, self.harmonics, self.paths = table.dim_in, table.dim_harmonics, len(table.paths)

    def h(self, name: str) -> Array:
        return self.code[name].row(self.sender, self.features * self.channels, self.c)

    def y(self, name: str) -> Array:
        return self.code[name].row(self.e, self.harmonics)

    def r(self, name: str) -> Array:
        return self.code[name].row(self.weight_row, self.paths * self.channels, self.c)


def _sum_forward(at: Receiver) -> None:
    code = at.code

    def products(edge: Edge, p: int, a: int) -> list[tuple[Value, Array]]:
        x = code.load(edge.h("h"), a * at.channels) * code.load(edge.r("r"), p * at.channels)
        return [(x, edge.y("y"))]

    sum_over_edges(at, products, "out")


def _sum_double_backward(at: Receiver) -> None:
    code = at.code

    def products(edge: Edge, p: int, a: int) -> list[tuple[Value, Array]]:
        h, vh = (code.load(edge.h(name), a * at.channels) for name in ("h", "vh"))
        r, vr = (code.load(edge.r(name), p * at.channels) for name in ("r", "vr"))
        return [(fma(vh, r, h * vr), edge.y("y")), (h * r, edge.y("vy"))]

    sum_over_edges(at, products, "grad_g")


def sum_over_edges(at: Receiver, products: Callable[[Edge, int, int], list[tuple[Value, Array]]], name: str) -> None:
    """out(o) = sum over a, b of C[a, b, o] M(a, b), M the sum over edges of x(a) y(b) for all given pairs of x and y.

    One path and one a at a time: what a loop over edges sums up stays in registers.
    """
    code, rows = at.code, at.rows(name)
    for p, (l1, l2, l3) in enumerate(at.table.paths):
        coefficients = at.table.coefficients(p)
        out: list[Value | None] = [None] * (2 * l3 + 1)
        for group in _groups(2 * l1 + 1, 2 * l2 + 1):

            def body(edge: Edge, *sums: Value, p: int = p, l1: int = l1, l2: int = l2, group: range = group) -> Any:
                updated = list(sums)
                for i, a in enumerate(group):
                    for x, y in products(edge, p, l1 * l1 + a):
                        for b in range(2 * l2 + 1):
                            j = i * (2 * l2 + 1) + b
                            updated[j] = fma(x, code.splat(y, l2 * l2 + b), updated[j])
                return updated

            sums = at.edges(body, [code.zero] * (len(group) * (2 * l2 + 1)))
            couple(code, coefficients[group.start : group.stop], sums, out)
        for o, value in enumerate(out):
            code.store(value, rows[l3], at.row_offset(p, o))


def couple(code: Code, coefficients: np.ndarray, m: Sequence[Value], out: list[Value | None]) -> None:
    """out(o) += sum over a, b of C[a, b, o] M(a, b)."""
    for (a, b, o), c in np.ndenumerate(coefficients):
        if c != 0.0:
            out[o] = fma(code.constant(c), m[a * coefficients.shape[1] + b], out[o])


def _groups(rows: int, columns: int) -> list[range]:
    """Rows in groups with no more than about 20 sums, two thirds of the vector registers."""
    size = max(1, 20 // columns)
    return [range(i, min(i + size, rows)) for i in range(0, rows, size)]


def pull_back(at: Receiver, scratch: str = "u") -> None:
    """U(a, b) of this receiver, to scratch memory."""
    code, rows = at.code, at.rows("g")
    for p, (l1, l2, l3) in enumerate(at.table.paths):
        coefficients = at.table.coefficients(p)
        g = [code.load(rows[l3], at.row_offset(p, o)) for o in range(2 * l3 + 1)]
        for a in range(2 * l1 + 1):
            for b in range(2 * l2 + 1):
                pairs = [(code.constant(c), g[o]) for o, c in enumerate(coefficients[a, b]) if c != 0.0]
                offset = at.u_offset(p) + (a * (2 * l2 + 1) + b) * code.lanes
                code.store(dot(pairs) if pairs else None, code[scratch], offset)


def _backward_edges(at: Receiver) -> None:
    code, table, channels = at.code, at.table, at.channels

    def body(edge: Edge) -> None:
        h = [code.load(edge.h("h"), a * channels) for a in range(table.dim_in)]
        grad_h: list[Value | None] = [None] * table.dim_in
        grad_y: list[Value | None] = [None] * table.dim_harmonics
        y = edge.y("y")
        at.prefetch(edge.e, ["r", "grad_r"])
        for p in table.by_harmonic:
            l1 = table.paths[p][0]
            r = code.load(edge.r("r"), p * channels)
            grad_r = None
            for a in range(l1 * l1, (l1 + 1) ** 2):
                x, q = h[a] * r, None
                for b, u in row_of_u(at, p, a):
                    q = fma(u, code.splat(y, b), q)
                    grad_y[b] = fma(x, u, grad_y[b])
                assert q is not None
                grad_h[a] = fma(r, q, grad_h[a])
                grad_r = fma(h[a], q, grad_r)
            assert grad_r is not None
            code.add_to(grad_r, edge.r("grad_r"), p * channels)
        _finish_edge(at, edge, grad_h, grad_y)

    at.edges(body)


def _double_backward_edges(at: Receiver) -> None:
    code, table, channels = at.code, at.table, at.channels

    def body(edge: Edge) -> None:
        h, vh = ([code.load(edge.h(name), a * channels) for a in range(table.dim_in)] for name in ("h", "vh"))
        grad_h: list[Value | None] = [None] * table.dim_in
        grad_y: list[Value | None] = [None] * table.dim_harmonics
        y, vy = edge.y("y"), edge.y("vy")
        at.prefetch(edge.e, ["r", "vr", "grad_r"])
        for p in table.by_harmonic:
            l1 = table.paths[p][0]
            r, vr = (code.load(edge.r(name), p * channels) for name in ("r", "vr"))
            grad_r = None
            for a in range(l1 * l1, (l1 + 1) ** 2):
                xv, q, qv = fma(vh[a], r, h[a] * vr), None, None
                for b, u in row_of_u(at, p, a):
                    q = fma(u, code.splat(y, b), q)
                    qv = fma(u, code.splat(vy, b), qv)
                    grad_y[b] = fma(xv, u, grad_y[b])
                assert q is not None
                assert qv is not None
                grad_h[a] = fma(r, qv, fma(vr, q, grad_h[a]))
                grad_r = fma(h[a], qv, fma(vh[a], q, grad_r))
            assert grad_r is not None
            code.add_to(grad_r, edge.r("grad_r"), p * channels)
        _finish_edge(at, edge, grad_h, grad_y)

    at.edges(body)


def row_of_u(at: Receiver, p: int, a: int, scratch: str = "u") -> list[tuple[int, Value]]:
    """(b, U(a, b)) of one path; a and b count all components."""
    l1, l2, _ = at.table.paths[p]
    start = at.u_offset(p) + (a - l1 * l1) * (2 * l2 + 1) * at.code.lanes
    return [(l2 * l2 + b, at.code.load(at.code[scratch], start + b * at.code.lanes)) for b in range(2 * l2 + 1)]


def _finish_edge(at: Receiver, edge: Edge, grad_h: Sequence[Value | None], grad_y: Sequence[Value | None]) -> None:
    add_to_sender(edge, grad_h)
    at.code.add_lane_sums(grad_y, edge.y("grad_y"))


def add_to_sender(edge: Edge, grad_h: Sequence[Value | None]) -> None:
    target = edge.h("grad_h")
    for a, value in enumerate(grad_h):
        if value is not None:
            edge.code.add_to(value, target, a * edge.channels)
