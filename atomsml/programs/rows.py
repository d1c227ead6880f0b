"""Small CPU kernels on rows of features (atoms, components, channels): sums, and the ends of readouts."""

from __future__ import annotations

import torch

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import DOUBLE, Value, dot
from atomsml.ops.activation import SILU_GAIN


@built_once
def zero_kernel(dtype: torch.dtype) -> Kernel:
    """x = 0: arrays x; count of numbers, whole vectors."""
    code = Code("zero", ["x"], ["count"], dtype)

    def vector(i: Value) -> None:
        code.store(code.zero, code["x"] + i, 0)

    code.loop(0, code.counts["count"], vector, step=code.lanes)
    return code.finish()


@built_once
def zero_scalars_kernel(dtype: torch.dtype) -> Kernel:
    """x = 0, of numbers one by one: array x; count."""
    code = Code("zero_scalars", ["x"], ["count"], dtype)

    def number(i: Value) -> None:
        code["x"][i] = code.double(0.0)

    code.loop(0, code.counts["count"], number)
    return code.finish()


@built_once
def add_kernel(dtype: torch.dtype) -> Kernel:
    """x += y: arrays x, y; count of numbers, whole vectors."""
    code = Code("add", ["x", "y"], ["count"], dtype)

    def vector(i: Value) -> None:
        code.add_to(code.load(code["y"] + i, 0), code["x"] + i, 0)

    code.loop(0, code.counts["count"], vector, step=code.lanes)
    return code.finish()


@built_once
def add_element_rows_kernel(components: int, channels: int, dtype: torch.dtype) -> Kernel:
    """x[n, 0] += table[species[n]]: arrays species, table (elements, channels), x; count of atoms."""
    code = Code("add_element_rows", ["species_index", "table", "x"], ["atoms"], dtype)

    def atom(n: Value) -> None:
        row = code["table"].row(code["species_index"][n], channels)
        x = code["x"].row(n, components * channels)
        for c in range(0, channels, code.lanes):
            code.add_to(code.load(row, c), x, c)

    code.loop(0, code.counts["atoms"], atom)
    return code.finish()


@built_once
def add_dot_kernel(components: int, channels: int, dtype: torch.dtype) -> Kernel:
    """energy[n] += x[n, 0] . w: arrays x, w (channels,), energy; count of atoms."""
    code = Code("add_dot", ["x", "w", "energy"], ["atoms"], dtype)

    def atom(n: Value) -> None:
        x = code["x"].row(n, components * channels)
        products = ((code.load(x, c), code.load(code["w"], c)) for c in range(0, channels, code.lanes))
        code.add_lane_sums([dot(products)], code["energy"] + n)

    code.loop(0, code.counts["atoms"], atom)
    return code.finish()


@built_once
def hidden_readout_kernel(columns: int, dtype: torch.dtype) -> Kernel:
    """energy[n] += sum over k of w_k silu(x_k), and x_k becomes w_k silu'(x_k): arrays x, w, energy; count of atoms."""
    code = Code("hidden_readout", ["x", "w", "energy"], ["atoms"], dtype)

    def atom(n: Value) -> None:
        def column(k: Value) -> None:
            place = n * columns + k
            x, w, energy = (code[a][i].to(DOUBLE) for a, i in (("x", place), ("w", k), ("energy", n)))
            s = 1.0 / (1.0 + (-x).exp())
            scaled = w * SILU_GAIN * s
            code["energy"][n] = energy + scaled * x
            code["x"][place] = scaled * (1.0 + x * (1.0 - s))

        code.loop(0, columns, column)

    code.loop(0, code.counts["atoms"], atom)
    return code.finish()


@built_once
def scale_by_element_kernel(columns: int, dtype: torch.dtype) -> Kernel:
    """energy[n] and x[n] times scale[species[n]]: arrays species, scale (elements,), x, energy; count of atoms."""
    code = Code("scale_by_element", ["species_index", "scale", "x", "energy"], ["atoms"], dtype)

    def atom(n: Value) -> None:
        scale = code["scale"][code["species_index"][n]].to(DOUBLE)
        code["energy"][n] = code["energy"][n].to(DOUBLE) * scale

        def column(k: Value) -> None:
            code["x"][n * columns + k] = code["x"][n * columns + k].to(DOUBLE) * scale

        code.loop(0, columns, column)

    code.loop(0, code.counts["atoms"], atom)
    return code.finish()
