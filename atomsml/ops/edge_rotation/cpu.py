"""CPU kernels of the rotation into edge frames: edge after edge, and for each one vector of channels after the other.

Sums over edges run in the order of the edges: equal input gives equal bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.machine import whole_vectors
from atomsml.codegen.values import Value, dot, fma, total
from atomsml.ops.edge_rotation.table import Places


def turn_in(wigner: Sequence[Tensor], features: Tensor, index: Tensor, places: Places) -> Tensor:
    channels, x = features.shape[2], whole_vectors(features)
    out = x.new_empty(index.shape[1], len(places), x.shape[2])
    _run("turn_in", wigner, x, index, out, places)
    return out[..., :channels]


def turn_out(wigner: Sequence[Tensor], messages: Tensor, index: Tensor, places: Places, num_rows: int) -> Tensor:
    channels, y = messages.shape[2], whole_vectors(messages)
    out = y.new_zeros(num_rows, sum(d.shape[2] for d in wigner), y.shape[2])
    _run("turn_out", wigner, out, index, y, places)
    return out[..., :channels]


def products(messages: Tensor, features: Tensor, index: Tensor, places: Places, degrees: int) -> list[Tensor]:
    rows = _kept_rows(degrees, len(places))
    out = [messages.new_zeros(index.shape[1], kept, 2 * l + 1) for l, kept in enumerate(rows)]
    _run("products", out, whole_vectors(features), index, whole_vectors(messages), places)
    return out


def _kept_rows(degrees: int, places: int) -> tuple[int, ...]:
    """2 min(l, mmax) + 1 for each degree l, from their sum."""
    for mmax in range(degrees):
        rows = tuple(2 * min(l, mmax) + 1 for l in range(degrees))
        if sum(rows) == places:
            return rows
    raise AssertionError(f"no mmax keeps {places} components of {degrees} degrees")


def _run(kind: str, wigner: Sequence[Tensor], x: Tensor, index: Tensor, y: Tensor, places: Places) -> None:
    kernel = _kernel(kind, tuple(d.shape[1] for d in wigner), len(index), places, x.shape[2], x.dtype)
    kernel([index.contiguous(), *[d.contiguous() for d in wigner], x, y], index.shape[1])


@built_once
def _kernel(
    kind: str, kept: tuple[int, ...], sources: int, places: Places, channels: int, dtype: torch.dtype
) -> Kernel:
    names = [f"wigner{l}" for l in range(len(kept))]
    code = Code(kind, ["index_index", *names, "x", "y"], ["edges"], dtype)

    def edge(e: Value) -> None:
        numbers = [code["index_index"][e + code.counts["edges"] * i] for i in range(sources)]
        rows = [code["x"].row(n, len(kept) ** 2 * channels) for n in numbers]
        message = code["y"].row(e, len(places) * channels)
        first = 0
        for l, orders in enumerate(kept):
            width = 2 * l + 1
            d = code[f"wigner{l}"].row(e, orders * width)
            x = [(l * l + j) * channels for j in range(width)]
            y = [place * channels for place in places[first : first + orders]]

            def vector_of_channels(c: Value, *totals: Value, d: Array = d, x: Any = x, y: Any = y) -> list[Value]:
                return DEGREES[kind](Degree(code, d, [row + c for row in rows], x, message + c, y), totals)

            totals = [code.zero] * (width * orders if kind == "products" else 0)
            totals = code.loop(0, channels, vector_of_channels, totals, step=code.lanes)
            code.add_lane_sums(totals, d)
            first += orders

    code.loop(0, code.counts["edges"], edge)
    return code.finish()


@dataclass(frozen=True)
class Degree:
    """One degree of one edge and one vector of channels: where things are."""

    code: Code
    wigner: Array
    rows: list[Array]  # of features
    x: list[int]  # places of components j in a row
    message: Array
    y: list[int]  # places of components k in the message

    def features(self) -> list[Value]:
        """For each j, summed over the rows."""
        code = self.code
        return [total(code.load(row, place) for row in self.rows) for place in self.x]

    def messages(self) -> list[Value]:
        """For each k."""
        return [self.code.load(self.message, place) for place in self.y]

    def coefficient(self, k: int, j: int) -> Value:
        return self.code.splat(self.wigner, k * len(self.x) + j)


def _turn_in(degree: Degree, _: Sequence[Value]) -> list[Value]:
    features = degree.features()
    for k, place in enumerate(degree.y):
        turned = dot((degree.coefficient(k, j), x) for j, x in enumerate(features))
        degree.code.store(turned, degree.message, place)
    return []


def _turn_out(degree: Degree, _: Sequence[Value]) -> list[Value]:
    messages = degree.messages()
    for j, place in enumerate(degree.x):
        turned = dot((degree.coefficient(k, j), y) for k, y in enumerate(messages))
        for row in degree.rows:
            degree.code.add_to(turned, row, place)
    return []


def _products(degree: Degree, totals: Sequence[Value]) -> list[Value]:
    pairs = itertools.product(degree.messages(), degree.features())
    return [fma(y, x, so_far) for (y, x), so_far in zip(pairs, totals, strict=True)]


DEGREES: dict[str, Callable[[Degree, Sequence[Value]], list[Value]]] = {
    "turn_in": _turn_in,
    "turn_out": _turn_out,
    "products": _products,
}
"""What each kernel does for one edge, one degree and one vector of channels; products are summed over these."""
