"""CPU kernels of the rotation into edge frames: edge after edge, and for each one vector of channels after the other.

Sums over edges run in the order of the edges: equal input gives equal bits.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from llvmlite.ir import Value
from torch import Tensor

from atomsml.codegen.vectors import I64, Code, Kernel, whole_vectors
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


@lru_cache
def _kernel(
    kind: str, kept: tuple[int, ...], sources: int, places: Places, channels: int, dtype: torch.dtype
) -> Kernel:
    names = [f"wigner{l}" for l in range(len(kept))]
    code = Code(kind, ["index_index", *names, "x", "y"], ["edges"], dtype)
    b = code.builder

    def edge(e: Value, _: list[Value]) -> list[Value]:
        numbers = [code.integer(code["index_index"], b.add(e, b.mul(code["edges"], I64(i)))) for i in range(sources)]
        rows = [code.row(code["x"], n, len(kept) ** 2 * channels) for n in numbers]
        message = code.row(code["y"], e, len(places) * channels)
        first = 0
        for l, orders in enumerate(kept):
            width = 2 * l + 1
            d = code.row(code[f"wigner{l}"], e, orders * width)
            x = [(l * l + j) * channels for j in range(width)]
            y = [place * channels for place in places[first : first + orders]]

            def vector_of_channels(c: Value, totals: list[Value], d: Value = d, x: Any = x, y: Any = y) -> list[Value]:
                at = [b.gep(pointer, [c]) for pointer in (*rows, message)]
                return DEGREES[kind](Degree(code, d, at[:-1], x, at[-1], y), totals)

            totals = [code.zero] * (width * orders if kind == "products" else 0)
            totals = code.loop(I64(0), I64(channels), vector_of_channels, totals, step=code.lanes)
            code.add_lane_sums(totals, d)
            first += orders
        return []

    code.loop(I64(0), code["edges"], edge)
    return code.finish()


@dataclass(frozen=True)
class Degree:
    """One degree of one edge and one vector of channels: where things are."""

    code: Code
    wigner: Value
    rows: list[Value]  # of features
    x: list[int]  # places of components j in a row
    message: Value
    y: list[int]  # places of components k in the message

    def features(self) -> list[Value]:
        """For each j, summed over the rows."""
        code = self.code
        return [functools.reduce(code.add, [code.load(row, place) for row in self.rows]) for place in self.x]

    def messages(self) -> list[Value]:
        """For each k."""
        return [self.code.load(self.message, place) for place in self.y]

    def coefficient(self, k: int, j: int) -> Value:
        return self.code.splat(self.wigner, k * len(self.x) + j)


def _turn_in(degree: Degree, _: list[Value]) -> list[Value]:
    code, features = degree.code, degree.features()
    for k, place in enumerate(degree.y):
        total = None
        for j, vector in enumerate(features):
            total = code.fma(degree.coefficient(k, j), vector, total)
        code.store(total, degree.message, place)
    return []


def _turn_out(degree: Degree, _: list[Value]) -> list[Value]:
    code, messages = degree.code, degree.messages()
    for j, place in enumerate(degree.x):
        total = None
        for k, vector in enumerate(messages):
            total = code.fma(degree.coefficient(k, j), vector, total)
        for row in degree.rows:
            code.add_to(total, row, place)
    return []


def _products(degree: Degree, totals: list[Value]) -> list[Value]:
    pairs = itertools.product(degree.messages(), degree.features())
    return [degree.code.fma(y, x, total) for (y, x), total in zip(pairs, totals, strict=True)]


DEGREES: dict[str, Callable[[Degree, list[Value]], list[Value]]] = {
    "turn_in": _turn_in,
    "turn_out": _turn_out,
    "products": _products,
}
"""What each kernel does for one edge, one degree and one vector of channels; products are summed over these."""
