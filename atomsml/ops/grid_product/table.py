"""The Gaunt coefficients, which are all that a product of two signals needs."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from atomsml.o3.s2_grid import Components, product_grid


@lru_cache
def gaunt_coefficients(components: Components) -> Tensor:
    """G_ijk = mean of Y_i Y_j Y_k over the sphere, by exact quadrature; what is zero but for rounding is zero."""
    grid = product_grid(components, 2)
    dense = torch.einsum("ip,pj,pk->ijk", grid.from_grid, grid.to_grid, grid.to_grid)
    return torch.where(dense.abs() > 1e-12, dense, 0.0)
