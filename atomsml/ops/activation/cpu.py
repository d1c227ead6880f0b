"""CPU kernels of the scaled SiLU and its derivatives, as operation.py writes them."""

from __future__ import annotations

import torch
from torch import Tensor

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.machine import whole_vectors
from atomsml.codegen.values import Value, fma
from atomsml.ops.activation.table import SILU_GAIN


def forward(x: Tensor, s: Tensor) -> Tensor:
    """f(x), s = sigmoid(x)."""
    return _run("forward", 1, x, s)[0]


def backward(g: Tensor, x: Tensor, s: Tensor) -> Tensor:
    """g f'(x)."""
    return _run("backward", 1, x, s, g)[0]


def double_backward(v: Tensor, g: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, ...]:
    """v f'(x) and v g f''(x)."""
    return _run("double_backward", 2, x, s, g, v)


def _run(kind: str, outputs: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    arrays = [whole_vectors(x) for x in inputs]
    out = [torch.empty_like(arrays[0]) for _ in range(outputs)]
    _kernel(kind, arrays[0].dtype)([*arrays, *out], arrays[0].numel())
    return tuple(x[..., : inputs[0].shape[-1]] for x in out)


@built_once
def _kernel(kind: str, dtype: torch.dtype) -> Kernel:
    names = {"forward": ["x", "s", "f"], "backward": ["x", "s", "g", "out"]}
    names["double_backward"] = ["x", "s", "g", "v", "by_g", "by_x"]
    code = Code(f"silu_{kind}", names[kind], ["size"], dtype)

    def elements(i: Value) -> None:
        def load(name: str) -> Value:
            return code.load(code[name] + i, 0)

        def store(value: Value, name: str) -> None:
            code.store(value, code[name] + i, 0)

        x, s = load("x"), load("s")
        scaled = SILU_GAIN * s
        if kind == "forward":
            store(scaled * x, "f")
            return
        rest = 1.0 - s
        first = scaled * fma(x, rest, code.constant(1.0))
        if kind == "backward":
            store(load("g") * first, "out")
            return
        second = scaled * rest * fma(x, rest - s, code.constant(2.0))
        store(load("v") * first, "by_g")
        store(load("v") * load("g") * second, "by_x")

    code.loop(0, code.counts["size"], elements, step=code.lanes)
    return code.finish()
