"""Linear layers in the frame of an edge, which commute with rotations about it.

Features x of order m there are pairs (x_m, x_-m), which a rotation about the edge mixes like the real and imaginary
part of a complex number. What commutes with it is multiplication by complex numbers: for each m > 0

    [y_m ]   [A  -B] [x_m ]
    [y_-m] = [B   A] [x_-m],

and any matrix for m = 0 (S. Passaro and C. L. Zitnick, arXiv:2302.03655, section on SO(2) convolutions). A mirror plane
through the edge changes the sign of x_-m where features have natural parity: B = 0 commutes with it as well.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SO2Linear(nn.Module):
    """One matrix for each order m = 0 ... mmax, over all degrees and channels of that order.

    Args:
        parity: keep the natural parity of features, by B = 0; else the layer is equivariant to rotations alone.
    """

    def __init__(self, channels_in: int, channels_out: int, lmax: int, mmax: int, parity: bool = True) -> None:
        super().__init__()
        self.lmax, self.mmax = lmax, mmax
        degrees = [lmax + 1 - m for m in range(mmax + 1)]
        self.num_scales = sum(degrees)  # pairs (l, m >= 0)
        self.real = nn.ParameterList(nn.Parameter(torch.randn(n * channels_in, n * channels_out)) for n in degrees)
        self.imaginary = nn.ParameterList(
            nn.Parameter(torch.randn(n * channels_in, n * channels_out)) for n in degrees[1:] if not parity
        )

    def forward(self, x: Tensor, scales: Tensor | None = None) -> Tensor:
        """(edges, rows of `edge_components`, channels_in) -> the same with channels_out.

        `scales` (edges, num_scales, channels_in) multiply x before: one for each pair (l, m >= 0), in the order of m,
        then l. That is how radial functions enter.
        """
        sizes = [len(x), *x.shape[1:]]
        out, start, scale_start = [], 0, 0
        for m, weight in enumerate(self.real):
            n, signs = self.lmax + 1 - m, 1 if m == 0 else 2
            block = x[:, start : start + signs * n].unflatten(1, (signs, n))
            if scales is not None:
                block = block * scales[:, None, scale_start : scale_start + n]
            out.append(self._multiply(block.reshape(sizes[0], signs, n * sizes[2]), m, weight).unflatten(2, (n, -1)))
            start, scale_start = start + signs * n, scale_start + n
        return torch.cat([block.flatten(1, 2) for block in out], dim=1)

    def _multiply(self, block: Tensor, m: int, weight: Tensor) -> Tensor:
        """(edges, signs, degrees * channels_in) -> (edges, signs, degrees * channels_out)."""
        if m == 0 or not self.imaginary:
            return block @ (weight / math.sqrt(len(weight)))
        a, b = weight, self.imaginary[m - 1]
        complex_product = torch.cat([torch.cat([a, b], dim=1), torch.cat([-b, a], dim=1)]) / math.sqrt(2 * len(a))
        return (block.flatten(1) @ complex_product).unflatten(1, (2, -1))
