"""Gather, tensor product, scatter: the equivariant convolution over receiver-sorted edges.

    out[r, o, c] = sum over edges e into r, paths p, a, b of
                   C_p[a, b, o] * features[sender(e), a, c] * harmonics[e, b] * weights[e, p, c]

(MACE: Batatia et al., arXiv:2206.07697, eq. 8; the same operation carries NequIP and SevenNet.) C_p holds the
Clebsch-Gordan coefficients of path p = (l1, l2, l3), times sqrt(2 l3 + 1) so that components keep unit variance.

| symbol | name | shape |
|---|---|---|
| h | features | (atoms, (lmax_in + 1)^2, channels) |
| Y | harmonics | (edges, (lmax + 1)^2) |
| R | weights | (edges, paths, channels) |
| out | | (atoms, sum over paths of 2 l3 + 1, channels): l3 ascending, then paths in order, then m |

`convolve` runs compiled kernels on CPU and the plain-torch reference elsewhere. Both are differentiable to second
order, as training on forces needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atomsml.o3 import clebsch_gordan

Path = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ConvolutionTable:
    """The paths of one convolution and their nonzero coefficients.

    A pair is one (o, a) with at least one nonzero coefficient; its terms are the rows
    `pair_start[i]:pair_start[i + 1]` of `term_b`, `term_value`. Pairs of a path are the rows
    `path_start[p]:path_start[p + 1]` of `pair_o`, `pair_a`.
    """

    name: str
    paths: tuple[Path, ...]
    path_start: np.ndarray  # (paths + 1,)
    pair_o: np.ndarray
    pair_a: np.ndarray
    pair_start: np.ndarray  # (pairs + 1,)
    term_b: np.ndarray
    term_value: np.ndarray
    dim_out: int

    def irrep_slices(self) -> dict[int, slice]:
        """l3 -> the rows of the output that carry it: paths of one l3 stand side by side."""
        slices: dict[int, slice] = {}
        start = 0
        for l3 in sorted({p[2] for p in self.paths}):
            size = sum(2 * l3 + 1 for p in self.paths if p[2] == l3)
            slices[l3] = slice(start, start + size)
            start += size
        return slices

    def paths_to(self, l3: int) -> int:
        return sum(p[2] == l3 for p in self.paths)


@lru_cache
def convolution_table(lmax_in: int, lmax: int, lmax_out: int) -> ConvolutionTable:
    """All natural-parity paths (l1 + l2 + l3 even), ordered by l3, then l1, then l2 (the order of e3nn and MACE)."""
    paths = [
        (l1, l2, l3)
        for l3 in range(lmax_out + 1)
        for l1 in range(lmax_in + 1)
        for l2 in range(lmax + 1)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    ]
    path_start, pair_start = [0], [0]
    pair_o: list[int] = []
    pair_a: list[int] = []
    term_b: list[int] = []
    term_value: list[float] = []
    row = 0
    for l1, l2, l3 in paths:
        coefficients = clebsch_gordan(l1, l2, l3).numpy() * np.sqrt(2 * l3 + 1)
        for o in range(2 * l3 + 1):
            for a in range(2 * l1 + 1):
                (nonzero,) = np.nonzero(np.abs(coefficients[a, :, o]) > 1e-12)
                if len(nonzero) == 0:
                    continue
                pair_o.append(row + o)
                pair_a.append(l1 * l1 + a)
                term_b.extend((l2 * l2 + nonzero).tolist())
                term_value.extend(coefficients[a, nonzero, o].tolist())
                pair_start.append(len(term_b))
        path_start.append(len(pair_o))
        row += 2 * l3 + 1
    return ConvolutionTable(
        name=f"{lmax_in}_{lmax}_{lmax_out}",
        paths=tuple(paths),
        path_start=np.array(path_start),
        pair_o=np.array(pair_o),
        pair_a=np.array(pair_a),
        pair_start=np.array(pair_start),
        term_b=np.array(term_b),
        term_value=np.array(term_value, dtype=np.float64),
        dim_out=row,
    )


def convolve(
    features: Tensor, harmonics: Tensor, weights: Tensor, edge_index: Tensor, table: ConvolutionTable
) -> Tensor:
    """The convolution of the module docstring; `edge_index` (2, edges) must be sorted by receiver (row 1)."""
    if features.device.type == "cpu":
        sender, receiver = edge_index
        counts = torch.bincount(receiver, minlength=len(features))
        row_start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        result: Tensor = _Convolve.apply(features, harmonics, weights, sender, row_start, table)
        return result
    return convolve_reference(features, harmonics, weights, edge_index, table)


def convolve_reference(
    features: Tensor, harmonics: Tensor, weights: Tensor, edge_index: Tensor, table: ConvolutionTable
) -> Tensor:
    """The same in plain torch: right to any order of differentiation, and the oracle of every kernel."""
    sender, receiver = edge_index
    gathered = features[sender]
    messages = []
    for p, (l1, l2, l3) in enumerate(table.paths):
        coefficients = (clebsch_gordan(l1, l2, l3) * (2 * l3 + 1) ** 0.5).to(features)
        product = torch.einsum(
            "eac,eb,abo->eoc",
            gathered[:, l1 * l1 : (l1 + 1) ** 2],
            harmonics[:, l2 * l2 : (l2 + 1) ** 2],
            coefficients,
        )
        messages.append(product * weights[:, p, None, :])
    out = features.new_zeros(len(features), table.dim_out, features.shape[2])
    return out.index_add(0, receiver, torch.cat(messages, dim=1))


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, y: Tensor, r: Tensor, sender: Tensor, row_start: Tensor, table: ConvolutionTable
    ) -> Tensor:
        from atomsml.ops import convolution_cpu

        ctx.save_for_backward(h, y, r, sender, row_start)
        ctx.table = table
        return convolution_cpu.forward(h, y, r, sender, row_start, table)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _ConvolveBackward.apply(g, *ctx.saved_tensors, ctx.table)
        return (*gradients, None, None, None)


class _ConvolveBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, h: Tensor, y: Tensor, r: Tensor, sender: Tensor, row_start: Tensor, table: ConvolutionTable
    ) -> tuple[Tensor, Tensor, Tensor]:
        from atomsml.ops import convolution_cpu

        ctx.save_for_backward(g, h, y, r, sender, row_start)
        ctx.table = table
        return convolution_cpu.backward(g, h, y, r, sender, row_start, table)

    @staticmethod
    def backward(ctx: Any, vh: Tensor, vy: Tensor, vr: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _ConvolveDoubleBackward.apply(vh, vy, vr, *ctx.saved_tensors, ctx.table)
        return (*gradients, None, None, None)


class _ConvolveDoubleBackward(torch.autograd.Function):
    """A function of its own only to refuse third derivatives, which would otherwise be dropped in silence."""

    @staticmethod
    def forward(ctx: Any, *operands: Any) -> tuple[Tensor, ...]:
        from atomsml.ops import convolution_cpu

        return convolution_cpu.double_backward(*operands)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError("the kernels of the convolution have no third derivatives; use convolve_reference")
