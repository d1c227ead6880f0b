"""Floating-point operations that torch runs, counted as it runs them; tensors without data (device "meta") do.

2 m n k for a product of matrices, 1 for each element of a sum or a product, 2 for one of a product that is added, and
2.5 N log2(N) for the Fourier transform of N real numbers. A complex multiplication with addition counts four times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False, custom_mapping=_COUNTS) as counter:
        call()
    return float(counter.get_total_flops())


def _matrices(a: Tensor, b: Tensor, *_: object, out_val: Tensor, **__: object) -> int:
    return 2 * out_val.numel() * a.shape[-1] * (4 if a.is_complex() else 1)


def _elements(*_: object, out_val: Tensor, **__: object) -> int:
    return out_val.numel()


def _two_for_each_element(*_: object, out_val: Tensor, **__: object) -> int:
    return 2 * out_val.numel()


def _added(target: Tensor, dim: int, index: Tensor, source: Tensor, **_: object) -> int:
    return source.numel()


def _real_to_complex(x: Tensor, dim: list[int], *_: object, **__: object) -> float:
    return 2.5 * x.numel() * math.log2(math.prod(x.shape[d] for d in dim))


def _complex_to_real(x: Tensor, dim: list[int], *_: object, out_val: Tensor, **__: object) -> float:
    return _real_to_complex(out_val, dim)


def _raw(count: Callable[..., float]) -> Callable[..., float]:
    """Told of tensors, not of their shapes alone."""
    count._get_raw = True  # type: ignore[attr-defined]
    return count


_ATEN = torch.ops.aten
_COUNTS: dict[Any, Callable[..., float]] = {
    _ATEN.mm: _raw(_matrices),
    _ATEN.bmm: _raw(_matrices),
    _ATEN.mul: _raw(_elements),
    _ATEN.add: _raw(_elements),
    _ATEN.neg: _raw(_elements),
    _ATEN.addcmul_: _raw(_two_for_each_element),
    _ATEN.index_add: _raw(_added),
    _ATEN._fft_r2c: _raw(_real_to_complex),
    _ATEN._fft_c2r: _raw(_complex_to_real),
}
