"""Functions of features of all degrees, point by point on the sphere.

Features are signals v(r) = sum_i v_i Y_i(r) on the sphere, and what acts on v(r) point by point commutes with
rotations. Facet, eSCN (arXiv:2302.03655) and EquiformerV2 (arXiv:2306.12059) apply SiLU at points of a grid
(`on_grid`), which is equivariant up to the error of that grid. In `GridMLP` what happens at the points is polynomial,
and exact on its grid:

    v'(r) = W_out g (f_1 + f_1 f_2 + ... + f_1 f_2 ... f_order)(r) + u,    f_k(r) = W_k v(r)

Functions that are not polynomial act on the scalars v_0, which rotations leave alone, and give the gates
g = 2 sigmoid(network(v_0)), one for each hidden channel, and new scalars u = network(v_0).

| symbol | name | shape |
|---|---|---|
| v | features | (n, components, channels_in) |
| f | signals | (n, components, hidden), `order` of them |
| g | gates | (n, 1, hidden) |
| u | scalars | (n, channels_out) |
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from atomsml.nn.linear import MLP
from atomsml.o3.s2_grid import Components, S2Grid, grid_matrices
from atomsml.ops.grid_product import for_each, grid_product


class GridMLP(nn.Module):
    """The network of the module docstring, equivariant exactly; zero features give zero.

    It keeps natural parity. All its matrices mix channels alone: maps that differ from degree to degree stand outside.

    Args:
        components: (l, m) of the rows of features; with all m of each l it is equivariant to all rotations, with
            |m| <= mmax to those about the polar axis.
        hidden: number of channels that are multiplied with each other, and width of the network of the scalars.
        order: number of signals in the longest product.

    Raises:
        ValueError: the first component is not (0, 0), or order < 1.
    """

    def __init__(
        self, components: Components, channels_in: int, hidden: int, channels_out: int, order: int = 2
    ) -> None:
        super().__init__()
        if components[:1] != ((0, 0),):
            raise ValueError(f"the first component must be the scalar (0, 0), got {components}")
        if order < 1:
            raise ValueError(f"order is {order}: multiply at least one signal")
        self.components, self.hidden, self.order = components, hidden, order
        self.signals = nn.Parameter(torch.randn(channels_in, order * hidden))
        self.scalars = MLP((channels_in, hidden, channels_out + hidden))
        self.out = nn.Parameter(torch.randn(hidden, channels_out))

    def forward(self, features: Tensor) -> Tensor:
        """(n, components, channels_in) -> (n, components, channels_out)."""
        signals = features @ (self.signals / math.sqrt(len(self.signals)))
        first, *others = signals.split(self.hidden, dim=2)
        scalars, gates = self.scalars(features[:, 0]).split([self.out.shape[1], self.hidden], dim=1)
        gated = first * (2 * torch.sigmoid(gates))[:, None]  # a gate is the same at all points: it may come first
        product = grid_product([gated, *others], self.components)
        mapped = product @ (self.out / math.sqrt(self.order * self.hidden))
        both = math.sqrt(0.5) * (mapped[:, :1] + scalars[:, None])  # of unit variance, as its two terms
        return torch.cat([both, mapped[:, 1:]], dim=1)


def on_grid(features: Tensor, grid: S2Grid, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to the values of features at the points of a grid, and project what comes back.

        v' = from_grid function(to_grid v)

    The projection leaves out what degrees the result has above those of the grid's components. Below them is an error
    that falls with the number of points, unless the function is a polynomial and the grid made for it
    (`product_grid`). Hence the result is equivariant up to that error; with the components |m| <= mmax < lmax it is so
    only under rotations about the polar axis.

    Args:
        function: (n, points, channels) -> (n, points, channels'): the same map at each point, such as a perceptron
            over the channels.

    Shapes (n, components, channels) -> (n, components, channels').
    """
    to_grid, from_grid = grid_matrices(grid, features.dtype, features.device)
    return for_each(from_grid, function(for_each(to_grid, features)))
