"""Gather, tensor product, scatter: the equivariant convolution over receiver-sorted edges.

    out[r, o, p, c] = sum over edges e into r and components a, b of
                      C_p[a, b, o] * features[sender(e), a, c] * harmonics[e, b] * weights[weight_row(e), p, c]

(MACE: Batatia et al., arXiv:2206.07697; the same operation carries NequIP and SevenNet.) C_p holds the
Clebsch-Gordan coefficients of path p = (l1, l2, l3), times sqrt(2 l3 + 1) so that components keep unit variance.

| symbol | name | shape |
|---|---|---|
| h | features | (atoms, (lmax_in + 1)^2, channels) |
| Y | harmonics | (edges, (lmax + 1)^2) |
| R | weights | (rows, paths, channels); edges may share a row, as the two directions of a pair do |
| out | | for each l3, ascending: (atoms, 2 l3 + 1, paths to l3 * channels) |

`convolve` runs compiled kernels on CPU and, where Triton is installed, on GPU; the plain-torch reference elsewhere. All
are differentiable to second order, as training on forces needs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from atomsml.ops.convolution.table import ConvolutionTable, Edges
from atomsml.ops.dispatch import kernels

_kernels = partial(kernels, "convolution")


def convolve(
    features: Tensor, harmonics: Tensor, weights: Tensor, edges: Edges, table: ConvolutionTable
) -> list[Tensor]:
    """The convolution of the module docstring, one tensor for each l3; in float32 or float64, whichever is wider."""
    dtype = torch.float32  # kernels know no narrower type, which matrix products under autocast return
    for x in (features, harmonics, weights):
        dtype = torch.promote_types(dtype, x.dtype)
    features, harmonics, weights = features.to(dtype), harmonics.to(dtype), weights.to(dtype)
    if _kernels(features.device) is None:
        return convolve_reference(features, harmonics, weights, edges, table)
    return [out.flatten(2) for out in _Convolve.apply(features, harmonics, weights, edges, table)]


def convolve_reference(
    features: Tensor, harmonics: Tensor, weights: Tensor, edges: Edges, table: ConvolutionTable
) -> list[Tensor]:
    """The same in plain torch: right to any order of differentiation, and the oracle of every kernel."""
    gathered, gathered_weights = features[edges.sender], weights[edges.weight_row]
    results = []
    for l3, paths in table.by_degree.items():
        messages = []
        for p in paths:
            l1, l2, _ = table.paths[p]
            product = torch.einsum(
                "eac,eb,abo->eoc",
                gathered[:, l1 * l1 : (l1 + 1) ** 2],
                harmonics[:, l2 * l2 : (l2 + 1) ** 2],
                torch.from_numpy(table.coefficients(p)).to(features),
            )
            messages.append(product * gathered_weights[:, p, None, :])
        out = features.new_zeros(len(features), 2 * l3 + 1, len(paths) * features.shape[2])
        results.append(out.index_add(0, edges.receiver, torch.cat(messages, dim=2)))
    return results


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, y: Tensor, r: Tensor, edges: Edges, table: ConvolutionTable) -> tuple[Tensor, ...]:
        ctx.save_for_backward(h, y, r)
        ctx.edges, ctx.table = edges, table
        return tuple(_kernels(h.device).forward(h, y, r, edges, table))

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        return (*_ConvolveBackward.apply(*ctx.saved_tensors, ctx.edges, ctx.table, *g), None, None)


class _ConvolveBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, y: Tensor, r: Tensor, edges: Edges, table: ConvolutionTable, *g: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(h, y, r, *g)
        ctx.edges, ctx.table = edges, table
        return _kernels(h.device).backward(g, h, y, r, edges, table)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        grads = _ConvolveDoubleBackward.apply(ctx.edges, ctx.table, *cotangents, *ctx.saved_tensors)
        return (*grads[:3], None, None, *grads[3:])


class _ConvolveDoubleBackward(torch.autograd.Function):
    """A function of its own only to refuse third derivatives, which would otherwise be dropped in silence."""

    @staticmethod
    def forward(ctx: Any, edges: Edges, table: ConvolutionTable, *operands: Tensor) -> tuple[Tensor, ...]:
        vh, vy, vr, h, y, r, *g = operands
        grad_g, *grads = _kernels(h.device).double_backward(vh, vy, vr, g, h, y, r, edges, table)
        return (*grads, *grad_g)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError("the kernels of the convolution have no third derivatives; use convolve_reference")
