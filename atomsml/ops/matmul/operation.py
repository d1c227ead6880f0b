"""Products of many rows with a matrix: x @ w, at the speed that the processor has.

Libraries of matrix products do not use all of every processor, nor are made for matrices as narrow as features are. The
product and the one that gives its derivative by the matrix, x^T y, form a pair that is closed under differentiation.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from atomsml.ops.dispatch import kernels

_kernels = partial(kernels, "matmul")
WORTH_A_KERNEL = 1_000_000  # multiplications: calling one costs as much as so many


def matmul(x: Tensor, w: Tensor) -> Tensor:
    """x (..., K) @ w (K, N), or (matrices, M, K) @ (matrices, K, N).

    On a CPU large products of float32 and float64 go through kernels.
    """
    rows = x.shape[:-1].numel() if w.dim() == 2 else x.shape[-2]
    if not _is_for_kernel(rows, w.shape[-2], x, w):
        return x @ w
    if w.dim() == 3:
        return torch.stack([matmul(*pair) for pair in zip(x, w, strict=True)])
    rows_of_x = x.reshape(-1, x.shape[-1])
    product: Tensor = _Product.apply(rows_of_x, w) if torch.is_grad_enabled() else _product(rows_of_x, w)
    return product.unflatten(0, x.shape[:-1])


def gram(x: Tensor, y: Tensor) -> Tensor:
    """x^T y of (..., rows, K) and (..., rows, N), in the same way."""
    if not _is_for_kernel(x.shape[-2], x.shape[-1], x, y):
        return x.mT @ y
    if x.dim() > 2:
        return torch.stack([gram(*pair) for pair in zip(x, y, strict=True)])
    product: Tensor = _Gram.apply(x, y) if torch.is_grad_enabled() else _gram(x, y)
    return product


def _is_for_kernel(rows: int, k: int, x: Tensor, y: Tensor) -> bool:
    """Not what is small, nor where torch is asked for lower precision, which it brings about itself."""
    large = rows * k * y.shape[-1] >= WORTH_A_KERNEL
    known = x.dtype == y.dtype and x.dtype in (torch.float32, torch.float64)
    return large and known and _kernels(x.device) is not None and not torch.is_autocast_enabled(x.device.type)


def _product(x: Tensor, w: Tensor) -> Tensor:
    found: Tensor = _kernels(x.device).product(x.contiguous(), w)
    return found


def _gram(x: Tensor, y: Tensor) -> Tensor:
    found: Tensor = _kernels(x.device).gram(x.contiguous(), y.contiguous())
    return found


class _Product(torch.autograd.Function):
    """x @ w"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return _product(x, w)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        by_x = _Product.apply(g, w.mT) if ctx.needs_input_grad[0] else None
        return by_x, _Gram.apply(x, g) if ctx.needs_input_grad[1] else None


class _Gram(torch.autograd.Function):
    """x^T y"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return _gram(x, y)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        by_x = _Product.apply(y, v.mT) if ctx.needs_input_grad[0] else None
        return by_x, _Product.apply(x, v) if ctx.needs_input_grad[1] else None
