"""Small CPU kernels on rows of features (atoms, components, channels): sums, and the ends of readouts."""

from __future__ import annotations

from functools import lru_cache

import torch
from llvmlite.ir import Value

from atomsml.codegen.numbers import constant, load, store
from atomsml.codegen.vectors import I64, Code, Kernel
from atomsml.ops.activation import SILU_GAIN


@lru_cache
def zero_kernel(dtype: torch.dtype) -> Kernel:
    """x = 0: arrays x; count of numbers, whole vectors."""
    code = Code("zero", ["x"], ["count"], dtype)

    def vector(i: Value, _: list[Value]) -> list[Value]:
        code.store(code.zero, code.row(code["x"], i, 1), 0)
        return []

    code.loop(I64(0), code["count"], vector, step=code.lanes)
    return code.finish()


@lru_cache
def zero_scalars_kernel(dtype: torch.dtype) -> Kernel:
    """x = 0, of numbers one by one: array x; count."""
    code = Code("zero_scalars", ["x"], ["count"], dtype)

    def number(i: Value, _: list[Value]) -> list[Value]:
        store([constant(code, 0.0)], code, "x", i)
        return []

    code.loop(I64(0), code["count"], number)
    return code.finish()


@lru_cache
def add_kernel(dtype: torch.dtype) -> Kernel:
    """x += y: arrays x, y; count of numbers, whole vectors."""
    code = Code("add", ["x", "y"], ["count"], dtype)

    def vector(i: Value, _: list[Value]) -> list[Value]:
        code.add_to(code.load(code.row(code["y"], i, 1), 0), code.row(code["x"], i, 1), 0)
        return []

    code.loop(I64(0), code["count"], vector, step=code.lanes)
    return code.finish()


@lru_cache
def add_element_rows_kernel(components: int, channels: int, dtype: torch.dtype) -> Kernel:
    """x[n, 0] += table[species[n]]: arrays species, table (elements, channels), x; count of atoms."""
    code = Code("add_element_rows", ["species_index", "table", "x"], ["atoms"], dtype)

    def atom(n: Value, _: list[Value]) -> list[Value]:
        row = code.row(code["table"], code.integer(code["species_index"], n), channels)
        x = code.row(code["x"], n, components * channels)
        for c in range(0, channels, code.lanes):
            code.add_to(code.load(row, c), x, c)
        return []

    code.loop(I64(0), code["atoms"], atom)
    return code.finish()


@lru_cache
def add_dot_kernel(components: int, channels: int, dtype: torch.dtype) -> Kernel:
    """energy[n] += x[n, 0] . w: arrays x, w (channels,), energy; count of atoms."""
    code = Code("add_dot", ["x", "w", "energy"], ["atoms"], dtype)

    def atom(n: Value, _: list[Value]) -> list[Value]:
        x, total = code.row(code["x"], n, components * channels), None
        for c in range(0, channels, code.lanes):
            total = code.fma(code.load(x, c), code.load(code["w"], c), total)
        code.add_lane_sums([total], code.row(code["energy"], n, 1))
        return []

    code.loop(I64(0), code["atoms"], atom)
    return code.finish()


@lru_cache
def hidden_readout_kernel(columns: int, dtype: torch.dtype) -> Kernel:
    """energy[n] += sum over k of w_k silu(x_k), and x_k becomes w_k silu'(x_k): arrays x, w, energy; count of atoms."""
    code = Code("hidden_readout", ["x", "w", "energy"], ["atoms"], dtype)

    def atom(n: Value, _: list[Value]) -> list[Value]:
        def column(k: Value, _: list[Value]) -> list[Value]:
            place = code.builder.add(code.times(n, columns), k)
            (x,), (w,), (energy,) = load(code, "x", place, 1), load(code, "w", k, 1), load(code, "energy", n, 1)
            s = (1.0 + (-x).exp()).inverse()
            scaled = w * SILU_GAIN * s
            store([energy + scaled * x], code, "energy", n)
            store([scaled * (1.0 + x * (1.0 - s))], code, "x", place)
            return []

        return code.loop(I64(0), I64(columns), column)

    code.loop(I64(0), code["atoms"], atom)
    return code.finish()
