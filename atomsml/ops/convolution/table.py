"""What a convolution is told beside its numbers: which paths there are, and which edges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from atomsml.device import capturing
from atomsml.o3 import clebsch_gordan

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
def convolution_table(lmax_in: int, lmax: int, lmax_out: int, odd: bool = False, lmin_in: int = 0) -> ConvolutionTable:
    """All natural-parity paths (l1 + l2 + l3 even), ordered by l3, then l1, then l2 (the order of e3nn and MACE).

    With `odd` also the paths of odd l1 + l2 + l3: products like the cross product, which an inversion turns around, so
    that the convolution is equivariant to rotations alone. With `lmin_in` no path begins below that degree.
    """
    paths = [
        (l1, l2, l3)
        for l3 in range(lmax_out + 1)
        for l1 in range(lmin_in, lmax_in + 1)
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
