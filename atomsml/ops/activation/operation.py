"""SiLU with unit second moment for a standard normal input, each of its derivatives in one pass over memory.

    f(x) = gain x s     f'(x) = gain s (1 + x (1 - s))     f''(x) = gain s (1 - s) (2 + x (1 - 2 s))     s = sigmoid(x)

Deriving torch's own SiLU twice, as training on forces does, takes some fifteen passes instead.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from llvmlite.ir import Value
from torch import Tensor
from torch.nn import functional

from atomsml.codegen.vectors import I64, Code, Kernel, whole_vectors

# E[silu(x)^2]^(-1/2) for x ~ N(0, 1): the activation keeps unit variance (e3nn's and MACE's constant)
SILU_GAIN = 1.6791767923989418


def silu(x: Tensor) -> Tensor:
    """f of the module docstring. On a CPU float32 and float64 go through kernels, which refuse third derivatives."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return SILU_GAIN * functional.silu(x)
    result: Tensor = _Silu.apply(x)
    return result


class _Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return _run("forward", 1, x, s)[0]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        gradient: Tensor = _SiluBackward.apply(g, *ctx.saved_tensors)
        return gradient


class _SiluBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, s: Tensor) -> Tensor:
        ctx.save_for_backward(g, x, s)
        return _run("backward", 1, x, s, g)[0]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None]:
        by_g, by_x = _SiluDoubleBackward.apply(v, *ctx.saved_tensors)
        return by_g, by_x, None


class _SiluDoubleBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        return _run("double_backward", 2, x, s, g, v)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Tensor:
        raise NotImplementedError("the kernels of silu have no third derivatives; use torch.nn.functional.silu")


def _run(kind: str, outputs: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    arrays = [whole_vectors(x) for x in inputs]
    out = [torch.empty_like(arrays[0]) for _ in range(outputs)]
    _kernel(kind, arrays[0].dtype)([*arrays, *out], arrays[0].numel())
    return tuple(x[..., : inputs[0].shape[-1]] for x in out)


@lru_cache
def _kernel(kind: str, dtype: torch.dtype) -> Kernel:
    names = {"forward": ["x", "s", "f"], "backward": ["x", "s", "g", "out"]}
    names["double_backward"] = ["x", "s", "g", "v", "by_g", "by_x"]
    code = Code(f"silu_{kind}", names[kind], ["size"], dtype)
    gain, one, two = (code.constant(value) for value in (SILU_GAIN, 1.0, 2.0))

    def elements(i: Value, _: list[Value]) -> list[Value]:
        def load(name: str) -> Value:
            return code.load(code.row(code[name], i, 1), 0)

        def store(value: Value, name: str) -> None:
            code.store(value, code.row(code[name], i, 1), 0)

        x, s = load("x"), load("s")
        scaled = code.mul(gain, s)
        if kind == "forward":
            store(code.mul(scaled, x), "f")
            return []
        rest = code.builder.fsub(one, s)
        first = code.mul(scaled, code.fma(x, rest, one))
        if kind == "backward":
            store(code.mul(load("g"), first), "out")
            return []
        second = code.mul(code.mul(scaled, rest), code.fma(x, code.builder.fsub(rest, s), two))
        store(code.mul(load("v"), first), "by_g")
        store(code.mul(code.mul(load("v"), load("g")), second), "by_x")
        return []

    code.loop(I64(0), code["size"], elements, step=code.lanes)
    return code.finish()
