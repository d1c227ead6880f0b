"""Gather, tensor product, scatter: the equivariant convolution over receiver-sorted edges.

    out[r, o, p, c] = sum over edges e into r and components a, b of
                      C_p[a, b, o] * features[sender(e), a, c] * harmonics[e, b] * weights[weight_row(e), p, c]

(MACE: Batatia et al., arXiv:2206.07697, eq. 8; the same operation carries NequIP and SevenNet.) C_p holds the
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

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atomsml.o3 import clebsch_gordan
from atomsml.ops.capture import capturing

Path = tuple[int, int, int]


@dataclass(frozen=True)
class ConvolutionTable:
    """The paths (l1, l2, l3) of one convolution, in the order of the weights."""

    lmax_in: int
    lmax: int
    paths: tuple[Path, ...]

    @property
    def dim_in(self) -> int:
        return (self.lmax_in + 1) ** 2

    @property
    def dim_harmonics(self) -> int:
        return (self.lmax + 1) ** 2

    @cached_property
    def by_degree(self) -> dict[int, list[int]]:
        """l3 -> numbers of the paths that lead to it."""
        degrees = sorted({path[2] for path in self.paths})
        return {l3: [p for p, path in enumerate(self.paths) if path[2] == l3] for l3 in degrees}

    @property
    def by_harmonic(self) -> list[int]:
        """Numbers of the paths, ordered by l2."""
        return sorted(range(len(self.paths)), key=lambda p: self.paths[p][1])

    def coefficients(self, p: int) -> np.ndarray:
        """(2 l1 + 1, 2 l2 + 1, 2 l3 + 1) of one path; what is zero but for rounding is zero."""
        l1, l2, l3 = self.paths[p]
        dense = clebsch_gordan(l1, l2, l3).numpy() * np.sqrt(2 * l3 + 1)
        return np.where(np.abs(dense) > 1e-12, dense, 0.0)


@lru_cache
def convolution_table(lmax_in: int, lmax: int, lmax_out: int, odd: bool = False) -> ConvolutionTable:
    """All natural-parity paths (l1 + l2 + l3 even), ordered by l3, then l1, then l2 (the order of e3nn and MACE).

    With `odd` also the paths of odd l1 + l2 + l3: products like the cross product, which an inversion turns around, so
    that the convolution is equivariant to rotations alone.
    """
    paths = [
        (l1, l2, l3)
        for l3 in range(lmax_out + 1)
        for l1 in range(lmax_in + 1)
        for l2 in range(lmax + 1)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (odd or (l1 + l2 + l3) % 2 == 0)
    ]
    return ConvolutionTable(lmax_in, lmax, tuple(paths))


@dataclass(frozen=True)
class Edges:
    """The edges of a graph as the convolution takes them: sorted by receiver."""

    sender: Tensor  # (edges,)
    receiver: Tensor  # (edges,)
    row_start: Tensor  # (atoms + 1,): edges into atom n are row_start[n] .. row_start[n + 1] - 1
    weight_row: Tensor  # (edges,)

    @cached_property
    def by_sender(self) -> Tensor:
        """Numbers of the edges, ordered by sender."""
        return torch.argsort(self.sender, stable=True)

    @cached_property
    def by_weight_row(self) -> Tensor:
        """Numbers of the edges, ordered by weight row."""
        return torch.argsort(self.weight_row, stable=True)

    @staticmethod
    def from_index(edge_index: Tensor, num_atoms: int, weight_row: Tensor | None = None) -> Edges:
        """Without `weight_row` every edge has weights of its own."""
        sender, receiver = edge_index.contiguous()
        row_start = torch.searchsorted(receiver, torch.arange(num_atoms + 1, device=receiver.device))
        own = torch.arange(len(sender), device=sender.device) if weight_row is None else weight_row.contiguous()
        return Edges(sender, receiver, row_start, own)


def edge_pairs(edge_index: Tensor, cell_offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Number of the pair that each edge belongs to (edges,), and the first edge of each pair (pairs,).

    Sender to receiver and receiver to sender, through the same images, are the two directions of one pair: what
    depends on the distance alone is computed once for both. An edge whose opposite is missing is a pair of its own; so
    is every edge while a CUDA graph is captured, since how many pairs there are depends on data.
    """
    if capturing(edge_index.device):
        own = torch.arange(edge_index.shape[1], device=edge_index.device)
        return own, own
    sender, receiver = edge_index
    offsets = cell_offsets.long()
    # every edge is turned to one of the two directions; between images of one atom the sign of the offset decides
    image = (offsets.sign() * offsets.new_tensor([4, 2, 1])).sum(dim=1)
    offsets = offsets * torch.where(sender == receiver, image, sender - receiver).sign()[:, None]
    key = torch.minimum(sender, receiver)
    for column in (torch.maximum(sender, receiver), *offsets.unbind(dim=1)):
        low, high = column.aminmax() if len(column) else (0, 0)
        key = key * (high - low + 1) + (column - low)
    pairs, number = torch.unique(key, return_inverse=True)
    edges = torch.arange(len(key), device=key.device)
    return number, torch.full_like(pairs, len(key)).scatter_reduce_(0, number, edges, "amin")


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


@lru_cache
def _kernels(device: torch.device) -> Any:
    """The module with the kernels for a device, or None."""
    if device.type == "cpu":
        from atomsml.ops import convolution_cpu

        return convolution_cpu
    if device.type == "cuda" and find_spec("triton"):
        from atomsml.ops import convolution_triton

        return convolution_triton
    return None


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
