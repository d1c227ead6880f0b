"""Frames in which an edge is the polar axis, and the Wigner matrices that lead there and back.

In its own frame an edge has harmonics of order m = 0 alone, and what may follow the edge is a rotation about it: the
full product of features with the harmonics of the edge becomes one small map for each order m (S. Passaro and
C. L. Zitnick, "Reducing SO(3) convolutions to SO(2)", ICML 2023, arXiv:2302.03655).

A frame is fixed but for a rotation about the edge, its roll. No choice of the roll is continuous on the whole sphere:
here it follows the Cartesian axis that is least aligned with the edge, and jumps where that is another one. Functions
that commute with the roll, and only those belong between `rotate_in` and `rotate_out`, do not see it: they are smooth
in the positions everywhere, at the poles too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import torch
from torch import Tensor

from atomsml.o3.clebsch_gordan import clebsch_gordan
from atomsml.o3.s2_grid import Components


def edge_components(lmax: int, mmax: int) -> Components:
    """(l, m) of each row in an edge frame: m = 0, then +1, -1, +2, -2 ... mmax, each with l = |m| ... lmax."""
    orders = [0, *(sign * m for m in range(1, mmax + 1) for sign in (1, -1))]
    return tuple((l, m) for m in orders for l in range(abs(m), lmax + 1))


def edge_rotation(vectors: Tensor) -> Tensor:
    """(edges, 3) -> (edges, 3, 3) rotations R that take the vectors to the polar axis y; see above for their roll."""
    squared = vectors.square().sum(dim=1, keepdim=True)
    y = vectors * torch.where(squared > 0, squared, 1.0).rsqrt()
    least = torch.nn.functional.one_hot(y.detach().abs().argmin(dim=1), 3).to(y)
    across = least - (least * y).sum(dim=1, keepdim=True) * y  # at least sqrt(2/3) long
    x = across * across.square().sum(dim=1, keepdim=True).rsqrt()
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=1)


@dataclass(frozen=True)
class EdgeFrames:
    """The frames of some edges, for features of degrees up to lmax of which orders |m| <= mmax are kept."""

    lmax: int
    mmax: int
    wigner: tuple[Tensor, ...]  # for each l: (edges, 2 min(l, mmax) + 1, 2 l + 1), the kept rows of the Wigner matrix

    @classmethod
    def from_vectors(cls, vectors: Tensor, lmax: int, mmax: int) -> Self:
        """vectors (edges, 3), of any length but zero. Raises ValueError unless 0 <= mmax <= lmax."""
        if not 0 <= mmax <= lmax:
            raise ValueError(f"mmax must lie in 0..lmax = {lmax}, got {mmax}")
        return cls(lmax, mmax, tuple(_wigner_rows(edge_rotation(vectors), lmax, mmax)))

    @cached_property
    def components(self) -> Components:
        return edge_components(self.lmax, self.mmax)

    def rotate_in(self, features: Tensor, index: Tensor) -> Tensor:
        """Features of atom index[e] in the frame of edge e.

        (atoms, (lmax + 1)^2, channels), (edges,) -> (edges, len(components), channels).
        """
        gathered = features[index].split([2 * l + 1 for l in range(self.lmax + 1)], dim=1)
        rotated = torch.cat([d @ x for d, x in zip(self.wigner, gathered, strict=True)], dim=1)
        return rotated[:, _by_order(self.lmax, self.mmax, index.device)]

    def rotate_out(self, messages: Tensor, index: Tensor, num_atoms: int) -> Tensor:
        """Messages turned back from the frames of their edges and summed at atom index[e].

        (edges, len(components), channels), (edges,) -> (num_atoms, (lmax + 1)^2, channels).
        """
        by_degree = messages[:, _by_degree(self.lmax, self.mmax, index.device)]
        blocks = by_degree.split([d.shape[1] for d in self.wigner], dim=1)
        turned = torch.cat([d.mT @ x for d, x in zip(self.wigner, blocks, strict=True)], dim=1)
        return turned.new_zeros(num_atoms, *turned.shape[1:]).index_add(0, index, turned)


@lru_cache
def _by_order(lmax: int, mmax: int, device: torch.device) -> Tensor:
    """Where the rows of `edge_components` stand among those sorted by degree l, then by m."""
    by_degree = sorted(edge_components(lmax, mmax))
    places = [by_degree.index(component) for component in edge_components(lmax, mmax)]
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return torch.tensor(places, device=device)


@lru_cache
def _by_degree(lmax: int, mmax: int, device: torch.device) -> Tensor:
    """The inverse of `_by_order`."""
    with torch.inference_mode(False):
        return _by_order(lmax, mmax, device).argsort()


def _wigner_rows(rotation: Tensor, lmax: int, mmax: int) -> list[Tensor]:
    """Rows |m| <= mmax of D_0 ... D_lmax, each degree from the one below by the Clebsch-Gordan series.

    With C = clebsch_gordan(l - 1, 1, l), a row of D_(l-1) times a row of the rotation couples to

        sum_(k, n) D_(l-1)[i, k] R[j, n] C[k, n, :] = sum_c C[i, j, c] D_l[c, :].

    For j = y, the polar axis, one c is left on the right-hand side, the row of the same order m as i. The two rows
    |m| = l follow from sums over i and j that C itself makes: (2 l + 1) sum_(i, j) C[i, j, c] of both sides is D_l[c].
    """
    rows = [torch.ones_like(rotation[:, :1, :1])]
    for l in range(1, lmax + 1):
        below, coupling = rows[-1], clebsch_gordan(l - 1, 1, l)
        kept = min(l - 1, mmax)
        like = coupling.to(rotation)
        along = below @ torch.einsum("en,knc->ekc", rotation[:, 1], like)
        scale = torch.stack([1 / coupling[l - 1 + m, 1, l + m] for m in range(-kept, kept + 1)]).to(rotation)
        found = along * scale[:, None]
        if l <= mmax:
            top = (2 * l + 1) * torch.einsum("ijc,eik,ejn,knd->ecd", like[..., [0, -1]], below, rotation, like)
            found = torch.cat([top[:, :1], found, top[:, 1:]], dim=1)
        rows.append(found)
    return rows
