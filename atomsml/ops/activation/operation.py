"""SiLU with unit second moment for a standard normal input, each of its derivatives in one pass over memory.

    f(x) = gain x s     f'(x) = gain s (1 + x (1 - s))     f''(x) = gain s (1 - s) (2 + x (1 - 2 s))     s = sigmoid(x)

Deriving torch's own SiLU twice, as training on forces does, takes some fifteen passes instead.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from atomsml.ops.activation.table import SILU_GAIN
from atomsml.ops.dispatch import kernels

_kernels = partial(kernels, "activation")


def silu(x: Tensor) -> Tensor:
    """f of the module docstring. On a CPU float32 and float64 go through kernels, which refuse third derivatives."""
    if _kernels(x.device) is None or x.dtype not in (torch.float32, torch.float64):
        return SILU_GAIN * functional.silu(x)
    result: Tensor = _Silu.apply(x)
    return result


class _Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return _kernels(x.device).forward(x, s)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        gradient: Tensor = _SiluBackward.apply(g, *ctx.saved_tensors)
        return gradient


class _SiluBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, s: Tensor) -> Tensor:
        ctx.save_for_backward(g, x, s)
        return _kernels(x.device).backward(g, x, s)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None]:
        by_g, by_x = _SiluDoubleBackward.apply(v, *ctx.saved_tensors)
        return by_g, by_x, None


class _SiluDoubleBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        return _kernels(x.device).double_backward(v, g, x, s)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Tensor:
        raise NotImplementedError("the kernels of silu have no third derivatives; use torch.nn.functional.silu")
