"""Products of signals on the sphere, formed point by point on an exact grid.

    out = f1 + P(f1 f2) + P(f1 f2 f3) + ...

with P the projection on the components that the factors have. Point-wise products commute with rotations and P loses
nothing to the quadrature, hence the result is equivariant to rounding: it is the sum of Gaunt tensor products (Luo et
al. 2024, arXiv:2401.10216, sec. 3) at the cost of three matrix products. Two factors need no grid on CPU, where a
compiled kernel takes half to a quarter of that time.
"""

from collections.abc import Sequence
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from atomsml.o3.s2_grid import Components, grid_matrices, product_grid
from atomsml.ops.dispatch import kernels

_kernels = partial(kernels, "grid_product")

CHUNK = 64  # rows of factors at a time on CPU: their values on the grid find room in a cache


def grid_product(factors: Sequence[Tensor], components: Components) -> Tensor:
    """Sum of the products of the first, the first two, ... of all factors, one channel at a time.

    The values on the grid are divided by K = sqrt(number of components), so that those of N(0, 1) coefficients have
    unit variance and a product of any degree has the scale of its factors; the result is multiplied by K.

    Shapes (n, components, channels), the same for all -> (n, components, channels). Differentiable to any order.
    Without all orders m of a degree, the result is equivariant only under rotations about the polar axis y.
    """
    device = factors[0].device
    if len(factors) == 2 and _kernels(device) is not None:
        dtype = torch.promote_types(torch.float32, torch.promote_types(factors[0].dtype, factors[1].dtype))
        first, second = (factor.to(dtype) for factor in factors)  # the kernel knows no narrower type
        return first + product_of_two(first, second, components) / sqrt(len(components))
    if device.type != "cpu":
        return _on_grid(factors, components)
    chunks = zip(*[factor.split(CHUNK) for factor in factors], strict=True)
    return torch.cat([_on_grid(chunk, components) for chunk in chunks])


def product_of_two(x: Tensor, y: Tensor, components: Components) -> Tensor:
    """The projected product alone, by the kernel of the device; any order of derivative."""
    out: Tensor = _Product.apply(x, y, components)
    return out


class _Product(torch.autograd.Function):
    """Its Gaunt coefficients are symmetric in all three components: the derivatives are products themselves."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, components: Components) -> Tensor:
        return _kernels(x.device).product_of_two(x, y, components)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Components], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.components = inputs[2]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        by_x = _Product.apply(g, y, ctx.components) if ctx.needs_input_grad[0] else None
        by_y = _Product.apply(x, g, ctx.components) if ctx.needs_input_grad[1] else None
        return by_x, by_y, None


def _on_grid(factors: Sequence[Tensor], components: Components) -> Tensor:
    to_grid, from_grid = grid_matrices(product_grid(components, len(factors)), factors[0].dtype, factors[0].device)
    scale = sqrt(len(components))
    values = [for_each(to_grid / scale, factor) for factor in factors]  # (n, points, channels)
    product = values[-1]
    for value in reversed(values[:-1]):
        product = value + value * product
    return for_each(from_grid * scale, product)


def for_each(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix @ x[n] for each n. Where gradients are asked for, `matmul` would copy x into another order first."""
    return torch.bmm(matrix.expand(len(x), -1, -1), x)
