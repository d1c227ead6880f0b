"""CPU kernels of the gate: SiLU of scalars, and other degrees times the SiLU of a scalar for each channel.

    out_0 = silu(x_0)        out_l(m) = silu(z_l) x_l(m)     for l >= 1

The first array holds all scalars, x_0 and then z_1, z_2, ..., the others x_l; channels are whole vectors. Backwards

    grad x_0 = silu'(x_0) g_0
    grad z_l = silu'(z_l) sum over m of x_l(m) g_l(m)        grad x_l(m) = silu(z_l) g_l(m)

take the place of the arrays themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from atomsml.codegen.arrays import Array as Numbers
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import Value, dot
from atomsml.ops.activation import SILU_GAIN
from atomsml.programs.plan import Array, Count, Plan, tensor_of


def forward(plan: Plan, x: Sequence[Array], out: Sequence[Array], atoms: int | Count) -> None:
    """x and out: for each l an array (atoms, 2l + 1, channels)."""
    plan.add(_kernel("forward", *_shape(out)), [*x, *out], atoms)


def backward(plan: Plan, x: Sequence[Array], g: Sequence[Array], atoms: int | Count) -> None:
    """x becomes its gradient."""
    plan.add(_kernel("backward", *_shape(g)), [*x, *g], atoms)


def _shape(out: Sequence[Array]) -> tuple[tuple[int, ...], torch.dtype]:
    return tuple(x.shape[2] for x in out), tensor_of(out[0]).dtype


@built_once
def _kernel(kind: str, channels: tuple[int, ...], dtype: torch.dtype) -> Kernel:
    degrees = range(len(channels))
    code = Code(f"gate_{kind}", [f"{name}{l}" for name in "xy" for l in degrees], ["atoms"], dtype)
    body = {"forward": _forward, "backward": _backward}[kind]

    def atom(n: Value) -> None:
        scalars = code["x0"].row(n, sum(channels))
        for l in degrees:
            size = (2 * l + 1) * channels[l]
            x, y = (code[f"{name}{l}"].row(n, size) for name in "xy")
            gates = scalars + sum(channels[:l])
            rows = [m * channels[l] for m in range(2 * l + 1)] if l > 0 else []

            def vector(c: Value, arrays: Sequence[Numbers] = (gates, x, y), rows: Sequence[int] = rows) -> None:
                body(code, [array + c for array in arrays], rows)

            code.loop(0, channels[l], vector, step=code.lanes)

    code.loop(0, code.counts["atoms"], atom)
    return code.finish()


def _forward(code: Code, arrays: Sequence[Numbers], rows: Sequence[int]) -> None:
    gates, x, y = arrays
    z = code.load(gates, 0)
    silu = SILU_GAIN * z * _sigmoid(z)
    if not rows:
        code.store(silu, y, 0)
    for row in rows:
        code.store(silu * code.load(x, row), y, row)


def _backward(code: Code, arrays: Sequence[Numbers], rows: Sequence[int]) -> None:
    gates, x, y = arrays
    z = code.load(gates, 0)
    s = _sigmoid(z)
    scaled = SILU_GAIN * s
    slope = scaled * (1.0 + z * (1.0 - s))
    g = [code.load(y, row) for row in rows or [0]]
    along = dot((code.load(x, row), g_m) for row, g_m in zip(rows, g, strict=True)) if rows else g[0]
    code.store(slope * along, gates, 0)
    for row, g_m in zip(rows, g, strict=False):
        code.store(scaled * z * g_m, x, row)


def _sigmoid(x: Value) -> Value:
    return 1.0 / (1.0 + (-x).exp())
