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

import torch
from torch import Tensor

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.machine import lanes
from atomsml.codegen.values import Value, dot, fma
from atomsml.ops.convolution import ConvolutionTable
from atomsml.ops.convolution.cpu import Edge, Receiver, add_to_sender, couple, pull_back, row_of_u, sum_over_edges
from atomsml.programs.edges import WEIGHTS, EdgeArrays
from atomsml.programs.plan import Array as PlanArray
from atomsml.programs.plan import Count, Plan

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
        h: PlanArray,
        out: Sequence[PlanArray],
        scratch: Tensor,
        first: int | Count,
        last: int | Count,
    ) -> None:
        """out: for each l3 an array whose first row is slot `first`."""
        arrays = [*_of_edges(edges), radial.start, edges.harmonics, edges.weights, radial.values, scratch, h, *out]
        plan.add(self._forward, arrays, radial.values.shape[1], first, last)

    def backward(
        self,
        plan: Plan,
        edges: EdgeArrays,
        radial: RadialRows,
        h: PlanArray,
        g: Sequence[PlanArray],
        grad_h: PlanArray,
        scratch: Tensor,
        first: int | Count,
        last: int | Count,
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


@built_once
def _kernel(kind: str, table: ConvolutionTable, channels: int, dtype: torch.dtype, with_features: bool) -> Kernel:
    indices = [f"{name}_index" for name in ("begin", "end", "sender", "kind", "piece", "start")]
    arrays = ["y", "weights", "radial", "scratch", "h"]
    degrees = table.by_degree if with_features else [0]
    names, body = {
        "forward": ([f"out{l}" for l in degrees], _forward),
        "backward": ([f"g{l}" for l in degrees] + ["grad_y", "grad_h"], _backward),
    }[kind]
    code = Code(f"tabulated_convolution_{kind}", indices + arrays + names, ["rows", "first", "last"], dtype)

    def vector_of_channels(c: Value) -> None:
        def receiver(t: Value) -> None:
            body(_TabulatedReceiver(code, table, channels, t, c, with_features))

        code.loop(code.counts["first"], code.counts["last"], receiver)

    code.loop(0, channels, vector_of_channels, step=code.lanes)
    return code.finish()


class _TabulatedReceiver(Receiver):
    """One slot and one vector of channels."""

    def __init__(
        self, code: Code, table: ConvolutionTable, channels: int, slot: Value, c: Value, with_features: bool
    ) -> None:
        super().__init__(code, table, channels, slot - code.counts["first"], c)
        self.slot, self.with_features = slot, with_features
        self.radial = code["radial"].row(c, code.counts["rows"] * len(table.paths))  # of this vector of channels

    def rows(self, name: str) -> dict[int, Array]:
        if self.with_features:
            return super().rows(name)
        joined = self.code[f"{name}0"].row(self.n, self.table.dim_harmonics * self.channels, self.c)
        return {l: joined + l * l * self.channels for l in self.table.by_degree}

    def edges(self, body: Callable[..., Sequence[Value] | None], carried: Sequence[Value] = ()) -> list[Value]:
        begin, end = self.code["begin_index"][self.slot], self.code["end_index"][self.slot]
        return self.code.loop(begin, end, lambda e, *sums: body(_TabulatedEdge(self, e, begin), *sums), carried)


class _TabulatedEdge(Edge):
    def __init__(self, at: _TabulatedReceiver, e: Value, begin: Value) -> None:
        code = at.code
        self.code, self.channels, self.c, self.e = code, at.channels, at.c, e
        self.features, self.harmonics, self.paths = at.table.dim_in, at.table.dim_harmonics, len(at.table.paths)
        self.sender = code["sender_index"][e]
        self.in_scratch = code["scratch"].row(e - begin, self.paths * code.lanes)
        row = code["start_index"][code["kind_index"][e]] + code["piece_index"][e]
        self.coefficients = at.radial.row(row, self.paths * code.lanes)
        self.weights = code["weights"].row(e, 2 * WEIGHTS)

    def radial(self, p: int, slope: bool = False) -> Value:
        """The radial function of a path, or its slope."""
        code = self.code
        return dot(
            (
                code.load(self.coefficients, (i * self.paths + p) * code.lanes),
                code.splat(self.weights, i + slope * WEIGHTS),
            )
            for i in range(WEIGHTS)
        )


def _forward(at: _TabulatedReceiver) -> None:
    code, table = at.code, at.table
    if sum((2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in table.paths) <= MOST_SUMS:
        _sum_in_one_pass(at)
        return

    def tabulate(edge: _TabulatedEdge) -> None:
        for p in range(len(table.paths)):
            code.store(edge.radial(p), edge.in_scratch, p * code.lanes)

    def products(edge: Edge, p: int, a: int) -> list[tuple[Value, Array]]:
        assert isinstance(edge, _TabulatedEdge)
        r = code.load(edge.in_scratch, p * code.lanes)
        x = code.load(edge.h("h"), a * at.channels) * r if at.with_features else r
        return [(x, edge.y("y"))]

    at.edges(tabulate)
    sum_over_edges(at, products, "out")


def _sum_in_one_pass(at: _TabulatedReceiver) -> None:
    """The same with all sums in registers."""
    code, paths = at.code, at.table.paths

    def body(edge: _TabulatedEdge, *sums: Value) -> list[Value]:
        updated = list(sums)
        j = 0
        for p, (l1, l2, _) in enumerate(paths):
            r = edge.radial(p)
            for a in range(l1 * l1, (l1 + 1) ** 2):
                x = code.load(edge.h("h"), a * at.channels) * r if at.with_features else r
                for b in range(l2 * l2, (l2 + 1) ** 2):
                    updated[j] = fma(x, code.splat(edge.y("y"), b), updated[j])
                    j += 1
        return updated

    sizes = [(2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in paths]
    sums, rows = at.edges(body, [code.zero] * sum(sizes)), at.rows("out")
    for p, (_, _, l3) in enumerate(paths):
        out: list[Value | None] = [None] * (2 * l3 + 1)
        couple(code, at.table.coefficients(p), sums[sum(sizes[:p]) : sum(sizes[: p + 1])], out)
        for o, value in enumerate(out):
            code.store(value, rows[l3], at.row_offset(p, o))


def _backward(at: _TabulatedReceiver) -> None:
    code, table = at.code, at.table
    pull_back(at, "scratch")

    def body(edge: _TabulatedEdge) -> None:
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
                x = h[a] * r if h else r
                q: Value | None = None
                for b, u in row_of_u(at, p, a, "scratch"):
                    q = fma(u, code.splat(y, b), q)
                    if l2 > 0:
                        grad_y[b] = fma(x, u, grad_y[b])
                assert q is not None
                grad_h[a] = fma(r, q, grad_h[a])
                grad_r = fma(h[a], q, grad_r) if h else q
            assert grad_r is not None
            grad_length = fma(edge.radial(p, slope=True), grad_r, grad_length)
        grad_y[0] = grad_length
        if h:
            add_to_sender(edge, grad_h)
        code.add_lane_sums(grad_y, edge.y("grad_y"))

    at.edges(body)
