"""exp() for compiled loops: a table of whole steps, and the series of Taylor between them."""

from __future__ import annotations

from functools import lru_cache
from math import floor

import numpy as np
import torch
from torch import Tensor

from atomsml.codegen.loops import Floats, compiled

LEAST, MOST, STEPS = -42, 17, 16  # from exp(LEAST) to exp(MOST), with so many steps in one


@lru_cache
def table() -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(np.exp(np.arange(LEAST * STEPS, MOST * STEPS + 1) / STEPS))


@compiled
def exponential(x: float, table: Floats) -> float:
    """exp(x) to rounding for x < MOST; 0 below LEAST, where 1 + exp(x) is 1."""
    if x < LEAST + 1.0:
        return 0.0
    n = floor(x * STEPS + 0.5)
    f = x - n / STEPS  # at most 1/32: the first term that is left out is below 1e-17
    series = 1.0 + f / 6.0 * (1.0 + f / 7.0)
    for k in range(5):
        series = 1.0 + f / (5.0 - k) * series
    return series * table[n - LEAST * STEPS]
