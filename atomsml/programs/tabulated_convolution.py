"""CPU kernels of the convolution for inference: radial functions come from tables, gradients go to the geometry alone.

Notation as in convolution_cpu.py. The radial functions of path p are r_p = sum over i of w_i T_p[row + i] with the
weights of an edge (edges_cpu.py), and their slopes s_p the same sum with the weights of slopes; nothing of the size of
edges times channels is ever stored. The gradients of one edge, summed over the channels, are

    grad_Y(b) = sum over a of h(a) r_p U_p(a, b)        grad_length = sum over p and a of s_p h(a) q_p(a)

and are added up over the layers of a model; nobody needs the gradient of the constant Y_00, and its place holds that
of the length. In the first layer of a model, features are constants that the tables contain: h = 1.

A table is (blocks, rows, paths, lanes): the functions of one vector of channels lie together, and the kernels take one
vector of channels after the other, so that what they read of a table stays in the cache. Atoms are counted in slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from llvmlite.ir import Value
from torch import Tensor

from atomsml.codegen.vectors import I64, Code, Kernel, lanes
from atomsml.ops.convolution import ConvolutionTable
from atomsml.ops.convolution.cpu import Edge, Receiver, add_to_sender, couple, pull_back, row_of_u, sum_over_edges
from atomsml.programs.edges import WEIGHTS, EdgeArrays
from atomsml.programs.plan import Plan

MOST_SUMS = 20  # that one pass over the edges of an atom keeps in registers


@dataclass(frozen=True)
class RadialRows:
    """Tabulated radial functions as the kernels read them."""

    values: Tensor  # (blocks, rows, paths, lanes)
    start: Tensor  # (kinds of edges,) first row

    @staticmethod
    def from_coefficients(
        coefficients: Tensor, table_of_kind: Tensor, num_paths: int, dtype: torch.dtype
    ) -> RadialRows:
        """coefficients (tables, rows, paths * channels), with whole vectors of channels."""
        tables, rows, _ = coefficients.shape
        blocked = coefficients.view(tables * rows, num_paths, -1, lanes(dtype)).permute(2, 0, 1, 3)
        return RadialRows(blocked.to(dtype).contiguous(), table_of_kind * rows)


class TabulatedConvolution:
    """Kernels for one table of paths and one number of channels.

    Args:
        with_features: False in a first layer, whose features are part of the radial functions.
    """

    def __init__(self, table: ConvolutionTable, channels: int, dtype: torch.dtype, with_features: bool) -> None:
        self.table, self.with_features, self.dtype = table, with_features, dtype
        self._forward = _kernel("forward", table, channels, dtype, with_features)
        self._backward = _kernel("backward", table, channels, dtype, with_features)

    def scratch_size(self, most_neighbors: int) -> int:
        """Numbers in the memory that both directions need, for atoms with no more than so many neighbours."""
        u = sum((2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in self.table.paths)
        return max(u, most_neighbors * len(self.table.paths)) * lanes(self.dtype)

    def forward(
        self,
        plan: Plan,
        edges: EdgeArrays,
        radial: RadialRows,
        h: Tensor,
        out: Sequence[Tensor],
        scratch: Tensor,
        first: int,
        last: int,
    ) -> None:
        """out: for each l3 an array whose first row is slot `first`."""
        arrays = [*_of_edges(edges), radial.start, edges.harmonics, edges.weights, radial.values, scratch, h, *out]
        plan.add(self._forward, arrays, radial.values.shape[1], first, last)

    def backward(
        self,
        plan: Plan,
        edges: EdgeArrays,
        radial: RadialRows,
        h: Tensor,
        g: Sequence[Tensor],
        grad_h: Tensor,
        scratch: Tensor,
        first: int,
        last: int,
    ) -> None:
        """Adds to edges.gradient and, at the senders, to grad_h."""
        arrays = [
            *_of_edges(edges),
            radial.start,
            edges.harmonics,
            edges.weights,
            radial.values,
            scratch,
            h,
            *g,
            edges.gradient,
            grad_h,
        ]
        plan.add(self._backward, arrays, radial.values.shape[1], first, last)


def _of_edges(edges: EdgeArrays) -> list[Tensor]:
    return [edges.begin, edges.end, edges.sender, edges.kind, edges.piece]


@lru_cache
def _kernel(kind: str, table: ConvolutionTable, channels: int, dtype: torch.dtype, with_features: bool) -> Kernel:
    indices = [f"{name}_index" for name in ("begin", "end", "sender", "kind", "piece", "start")]
    arrays = ["y", "weights", "radial", "scratch", "h"]
    degrees = table.by_degree if with_features else [0]
    names, body = {
        "forward": ([f"out{l}" for l in degrees], _forward),
        "backward": ([f"g{l}" for l in degrees] + ["grad_y", "grad_h"], _backward),
    }[kind]
    code = Code(f"tabulated_convolution_{kind}", indices + arrays + names, ["rows", "first", "last"], dtype)

    def vector_of_channels(c: Value, _: list[Value]) -> list[Value]:
        def receiver(t: Value, _: list[Value]) -> list[Value]:
            body(_TabulatedReceiver(code, table, channels, t, c, with_features))
            return []

        code.loop(code["first"], code["last"], receiver)
        return []

    code.loop(I64(0), I64(channels), vector_of_channels, step=code.lanes)
    return code.finish()


class _TabulatedReceiver(Receiver):
    """One slot and one vector of channels."""

    def __init__(
        self, code: Code, table: ConvolutionTable, channels: int, slot: Value, c: Value, with_features: bool
    ) -> None:
        super().__init__(code, table, channels, code.builder.sub(slot, code["first"]), c)
        self.slot, self.with_features = slot, with_features
        # the first row of this vector of channels
        self.radial = code.row(code["radial"], c, 0, code.builder.mul(c, code.times(code["rows"], len(table.paths))))

    def rows(self, name: str) -> dict[int, Value]:
        if self.with_features:
            return super().rows(name)
        joined = self.code.row(self.code[f"{name}0"], self.n, self.table.dim_harmonics * self.channels, self.c)
        return {l: self.code.row(joined, I64(l * l), self.channels) for l in self.table.by_degree}

    def edges(self, body: Callable[[Edge, list[Value]], list[Value]], carried: Sequence[Value] = ()) -> list[Value]:
        begin, end = (self.code.integer(self.code[name], self.slot) for name in ("begin_index", "end_index"))
        return self.code.loop(begin, end, lambda e, sums: body(_TabulatedEdge(self, e, begin), sums), carried)


class _TabulatedEdge(Edge):
    def __init__(self, at: _TabulatedReceiver, e: Value, begin: Value) -> None:
        code, b = at.code, at.code.builder
        self.code, self.channels, self.c, self.e = code, at.channels, at.c, e
        self.features, self.harmonics, self.paths = at.table.dim_in, at.table.dim_harmonics, len(at.table.paths)
        self.sender = code.integer(code["sender_index"], e)
        self.in_scratch = code.row(code["scratch"], b.sub(e, begin), self.paths * code.lanes)
        start = code.integer(code["start_index"], code.integer(code["kind_index"], e))
        row = b.add(start, code.integer(code["piece_index"], e))
        self.coefficients = code.row(at.radial, row, self.paths * code.lanes)
        self.weights = code.row(code["weights"], e, 2 * WEIGHTS)

    def radial(self, p: int, slope: bool = False) -> Value:
        """The radial function of a path, or its slope."""
        code, value = self.code, None
        for i in range(WEIGHTS):
            coefficient = code.load(self.coefficients, (i * self.paths + p) * code.lanes)
            value = code.fma(coefficient, code.splat(self.weights, i + slope * WEIGHTS), value)
        return value


def _forward(at: _TabulatedReceiver) -> None:
    code, table = at.code, at.table
    if sum((2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in table.paths) <= MOST_SUMS:
        _sum_in_one_pass(at)
        return

    def tabulate(edge: Edge, _: list[Value]) -> list[Value]:
        assert isinstance(edge, _TabulatedEdge)
        for p in range(len(table.paths)):
            code.store(edge.radial(p), edge.in_scratch, p * code.lanes)
        return []

    def products(edge: Edge, p: int, a: int) -> list[tuple[Value, Value]]:
        assert isinstance(edge, _TabulatedEdge)
        x = code.mul(code.load(edge.h("h"), a * at.channels), code.load(edge.in_scratch, p * code.lanes))
        return [(x, edge.y("y"))]

    at.edges(tabulate)
    sum_over_edges(at, products, "out")


def _sum_in_one_pass(at: _TabulatedReceiver) -> None:
    """The same with all sums in registers."""
    code, paths = at.code, at.table.paths

    def body(edge: Edge, sums: list[Value]) -> list[Value]:
        assert isinstance(edge, _TabulatedEdge)
        updated = list(sums)
        j = 0
        for p, (l1, l2, _) in enumerate(paths):
            r = edge.radial(p)
            for a in range(l1 * l1, (l1 + 1) ** 2):
                x = code.mul(code.load(edge.h("h"), a * at.channels), r) if at.with_features else r
                for b in range(l2 * l2, (l2 + 1) ** 2):
                    updated[j] = code.fma(x, code.splat(edge.y("y"), b), updated[j])
                    j += 1
        return updated

    sizes = [(2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in paths]
    sums, rows = at.edges(body, [code.zero] * sum(sizes)), at.rows("out")
    for p, (_, _, l3) in enumerate(paths):
        out: list[Value | None] = [None] * (2 * l3 + 1)
        couple(code, at.table.coefficients(p), sums[sum(sizes[:p]) : sum(sizes[: p + 1])], out)
        for o, value in enumerate(out):
            code.store(value or code.zero, rows[l3], at.row_offset(p, o))


def _backward(at: _TabulatedReceiver) -> None:
    code, table = at.code, at.table
    pull_back(at, "scratch")

    def body(edge: Edge, _: list[Value]) -> list[Value]:
        assert isinstance(edge, _TabulatedEdge)
        h = [code.load(edge.h("h"), a * at.channels) for a in range(table.dim_in)] if at.with_features else []
        grad_h: list[Value | None] = [None] * table.dim_in
        grad_y: list[Value | None] = [None] * table.dim_harmonics
        grad_length: Value | None = None
        y = edge.y("y")
        for p in table.by_harmonic:
            l1, l2 = table.paths[p][:2]
            r = edge.radial(p)
            grad_r: Value | None = None
            for a in range(l1 * l1, (l1 + 1) ** 2):
                x = code.mul(h[a], r) if h else r
                q: Value | None = None
                for b, u in row_of_u(at, p, a, "scratch"):
                    q = code.fma(u, code.splat(y, b), q)
                    if l2 > 0:
                        grad_y[b] = code.fma(x, u, grad_y[b])
                grad_h[a] = code.fma(r, q, grad_h[a])
                grad_r = code.fma(h[a], q, grad_r) if h else q
            grad_length = code.fma(edge.radial(p, slope=True), grad_r, grad_length)
        grad_y[0] = grad_length
        if h:
            add_to_sender(edge, grad_h)
        code.add_lane_sums([value or code.zero for value in grad_y], edge.y("grad_y"))
        return []

    at.edges(body)
