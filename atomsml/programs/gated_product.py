"""CPU kernels of the gated product of two signals on the sphere, for inference (nn/sphere.py).

    out = f + P(f, y) / sqrt(D),    f = 2 sigmoid(q) x,    P_k(f, y) = sum over i and j of G_ijk f_i y_j

with D components and Gaunt coefficients G. These are symmetric, so that of the gradient g of `out`

    grad f = g + P(y, g) / sqrt(D)        grad y = P(f, g) / sqrt(D)

and grad x = 2 sigmoid(q) grad f, grad q = 2 sigmoid'(q) x . grad f; they take the place of the arrays themselves.
"""

from __future__ import annotations

import math

import torch

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import Value, dot
from atomsml.o3.s2_grid import all_components
from atomsml.ops.grid_product.cpu import product
from atomsml.programs.plan import Array, Count, Plan, tensor_of


def forward(plan: Plan, x: Array, y: Array, q: Array, out: Array, atoms: int | Count) -> None:
    """x, y, out: (atoms, (lmax + 1)^2, channels), whole vectors; q: (atoms, 1, channels)."""
    plan.add(_kernel("forward", x.shape[1], x.shape[2], tensor_of(x).dtype), [x, y, q, out], atoms)


def backward(plan: Plan, x: Array, y: Array, q: Array, g: Array, atoms: int | Count) -> None:
    """x, y and q become their gradients."""
    plan.add(_kernel("backward", x.shape[1], x.shape[2], tensor_of(x).dtype), [x, y, q, g], atoms)


@built_once
def _kernel(kind: str, size: int, channels: int, dtype: torch.dtype) -> Kernel:
    code = Code(f"gated_product_{kind}", ["x", "y", "q", "g"], ["atoms"], dtype)
    components, scale = all_components(math.isqrt(size) - 1), 1 / math.sqrt(size)

    def atom(n: Value) -> None:
        def vector(c: Value) -> None:
            x, y, g = (code[name].row(n, size * channels, c) for name in ("x", "y", "g"))
            q = code["q"].row(n, channels, c)
            a, b = ([code.load(start, i * channels) for i in range(size)] for start in (x, y))
            s = 1.0 / (1.0 + (-code.load(q, 0)).exp())
            f = [2.0 * s * value for value in a]
            if kind == "forward":
                for k, value in enumerate(product(code, f, b, components)):
                    code.store(f[k] if value is None else f[k] + scale * value, g, k * channels)
                return
            by_out = [code.load(g, i * channels) for i in range(size)]
            from_y, from_f = product(code, b, by_out, components), product(code, f, by_out, components)
            by_f = [one if other is None else one + scale * other for one, other in zip(by_out, from_y, strict=True)]
            for k in range(size):
                code.store(2.0 * s * by_f[k], x, k * channels)
                value = from_f[k]
                code.store(None if value is None else scale * value, y, k * channels)
            along = dot(zip(a, by_f, strict=True))
            code.store(2.0 * s * (1.0 - s) * along, q, 0)

        code.loop(0, channels, vector, step=code.lanes)

    code.loop(0, code.counts["atoms"], atom)
    return code.finish()
