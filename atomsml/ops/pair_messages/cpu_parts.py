"""What the kernels of both directions have in common: sizes, vectors of any width, features of pairs, activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llvmlite import ir

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code
from atomsml.codegen.products import Product, Steps
from atomsml.codegen.values import Value, constant, fma, total
from atomsml.codegen.vector_functions import exp, sigmoid
from atomsml.ops.activation.table import SILU_GAIN
from atomsml.ops.pair_messages.table import DISTANCES, LOWEST, WIDTH

SHARPNESS = math.sqrt(0.5) / WIDTH


@dataclass(frozen=True)
class Sizes:
    """Widths of what a pair has."""

    channels: int
    vectors: int
    gates: int

    @property
    def features(self) -> int:
        return DISTANCES + 2 * self.vectors

    @property
    def ends(self) -> int:
        """Gates, then vectors."""
        return self.gates + self.vectors

    @property
    def gated(self) -> int:
        """Channels of a gate."""
        return self.channels // self.gates

    @property
    def widest(self) -> int:
        return max(self.channels, self.features)

    @property
    def scratch(self) -> int:
        """Of a pair, backwards."""
        return 3 * self.widest + self.ends


def spans(width: int, lanes: int) -> Iterator[tuple[int, int]]:
    """(begin, lanes) of the vectors that `width` numbers are cut into; the last may be narrower."""
    for begin in range(0, width, lanes):
        yield begin, min(lanes, width - begin)


@dataclass(frozen=True)
class Pairs:
    """One sample: `nodes` and `pairs` are known when the kernel runs."""

    code: Code
    sizes: Sizes
    nodes: Value

    @property
    def pairs(self) -> Value:
        return self.nodes * self.nodes

    def each(self, body: Callable[[Value, Value, Value], None]) -> None:
        """body(receiver, sender, pair) of all pairs."""

        def receiver(i: Value) -> None:
            self.code.loop(0, self.nodes, lambda j: body(i, j, i * self.nodes + j))

        self.code.loop(0, self.nodes, receiver)

    def multiply(self, x: Array, k: int, weights: Array, out: Array, columns: int, accumulate: bool = False) -> None:
        """out (pairs, columns) = x (pairs, k) @ packed weights, or added."""
        lanes = self.code.lanes
        Product(
            self.code, 1, k, columns, weights, lanes, k * lanes, x, Steps(k, 0, 1), out, Steps(columns, 0), accumulate
        ).write(self.code.integer(0), self.pairs)

    def add_gram(self, x: Array, k: int, y: Array, columns: int, out: Array) -> None:
        """out (k, columns) += x (pairs, k) transposed @ y (pairs, columns)."""
        lanes = self.code.lanes
        Product(
            self.code, 1, self.pairs, columns, y, columns, lanes, x, Steps(1, 0, k), out, Steps(columns, 0), True
        ).write(self.code.integer(0), self.code.integer(k))

    def gaussians(self, logarithm: Value, begin: int, lanes: int) -> tuple[Value, Value]:
        """Some of the features of a distance, and (log(1 + d) - centre) SHARPNESS."""
        kind = ir.VectorType(self.code.zero.kind.element, lanes)
        centres = ir.Constant(kind, [(begin + i) * WIDTH for i in range(lanes)])
        scaled = (logarithm.splat(lanes) - Value(self.code.builder, centres)) * SHARPNESS
        return exp(-(scaled * scaled).least(LOWEST)), scaled

    def write_features(self, logarithms: Array, units: Array, v: Array, out: Array) -> None:
        """f_ij of the equations, to out (pairs, features)."""
        vectors = self.sizes.vectors

        def pair(i: Value, j: Value, ij: Value) -> None:
            row, unit = out.row(ij, self.sizes.features), units.row(ij, 3)
            for begin, lanes in spans(DISTANCES, self.code.lanes):
                row.set_vector(self.gaussians(logarithms[ij], begin, lanes)[0], begin)
            for begin, lanes in spans(vectors, self.code.lanes):
                for place, node in enumerate((i, j)):
                    mine = v.row(node, 3 * vectors)
                    along = total(unit[k].splat(lanes) * mine.vector(k * vectors + begin, lanes) for k in range(3))
                    row.set_vector(-along if place else along, DISTANCES + place * vectors + begin)

        self.each(pair)


def silu(x: Value) -> Value:
    return SILU_GAIN * x * sigmoid(x)


def silu_and_slope(x: Value) -> tuple[Value, Value]:
    s = sigmoid(x)
    scaled = SILU_GAIN * s
    return scaled * x, scaled * fma(x, 1.0 - s, constant(x.builder, 1.0, x.kind))


def lane_sum(x: Value) -> Value:
    """The sum of all lanes of a vector."""
    builder, kind = x.builder, x.kind
    name = f"llvm.vector.reduce.fadd.v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
    known = builder.module.globals.get(name)
    function = known or ir.Function(builder.module, ir.FunctionType(kind.element, [kind.element, kind]), name)
    start = ir.Constant(kind.element, -0.0)
    return Value(builder, builder.call(function, [start, x.raw], fastmath=("reassoc",)))
