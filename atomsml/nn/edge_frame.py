"""Frames in which an edge is the polar axis, and the Wigner matrices that lead there and back.

In its own frame an edge has harmonics of order m = 0 alone, and what may follow the edge is a rotation about it: the
full product of features with the harmonics of the edge becomes one small map for each order m (S. Passaro and
C. L. Zitnick, "Reducing SO(3) convolutions to SO(2)", ICML 2023, arXiv:2302.03655).

A frame is fixed but for a rotation about the edge, its roll. No choice of the roll is continuous on the whole sphere:
here it follows the Cartesian axis that is least aligned with the edge, and jumps where that is another one. Functions
that commute with the roll, and only those belong between `rotate_in` and `rotate_out`, do not see it: they are smooth
in the positions everywhere, at the poles too. So derivatives of the matrices leave out how the roll changes. Networks
with SiLU at points of a grid see the roll, as much as their grid errs: `EdgeFrames.from_rotations` is for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from atomsml.o3.clebsch_gordan import clebsch_gordan
from atomsml.o3.s2_grid import Components
from atomsml.ops.edge_rotation import Places, turn_in, turn_out


def edge_components(lmax: int, mmax: int) -> Components:
    """(l, m) of each row in an edge frame: m = 0, then +1, -1, +2, -2 ... mmax, each with l = |m| ... lmax."""
    orders = [0, *(sign * m for m in range(1, mmax + 1) for sign in (1, -1))]
    return tuple((l, m) for m in orders for l in range(abs(m), lmax + 1))


def edge_rotation(vectors: Tensor) -> Tensor:
    """(edges, 3) -> (edges, 3, 3) rotations R that take the vectors to the polar axis y; see above for their roll."""
    squared = vectors.square().sum(dim=1, keepdim=True)
    y = vectors * _nonzero(squared).rsqrt()
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
        _check_orders(lmax, mmax)
        return cls(lmax, mmax, _WignerRows.apply(vectors, lmax, mmax))

    @classmethod
    def from_rotations(cls, rotations: Tensor, lmax: int, mmax: int) -> Self:
        """rotations (edges, 3, 3) that lead into the frames: for what sees the roll, whose change the derivatives of
        the matrices then follow. Raises ValueError unless 0 <= mmax <= lmax."""
        _check_orders(lmax, mmax)
        return cls(lmax, mmax, tuple(_wigner_rows(rotations, lmax, mmax)))

    @cached_property
    def components(self) -> Components:
        return edge_components(self.lmax, self.mmax)

    def rotate_in(self, features: Tensor, index: Tensor) -> Tensor:
        """Features of row index[e] in the frame of edge e; if index is (n, edges), the sum of such n rows.

        (rows, (lmax + 1)^2, channels), (edges,) or (n, edges) -> (edges, len(components), channels).
        """
        return turn_in(self.wigner, features, torch.atleast_2d(index), _places(self.lmax, self.mmax))

    def rotate_out(self, messages: Tensor, index: Tensor, num_atoms: int) -> Tensor:
        """Messages turned back from the frames of their edges and summed at atom index[e].

        (edges, len(components), channels), (edges,) -> (num_atoms, (lmax + 1)^2, channels).
        """
        return turn_out(self.wigner, messages, index[None], _places(self.lmax, self.mmax), num_atoms)


def _check_orders(lmax: int, mmax: int) -> None:
    if not 0 <= mmax <= lmax:
        raise ValueError(f"mmax must lie in 0..lmax = {lmax}, got {mmax}")


@lru_cache
def _places(lmax: int, mmax: int) -> Places:
    """Where the components stand in `edge_components`, sorted by degree l, then by m."""
    components = edge_components(lmax, mmax)
    return tuple(components.index(component) for component in sorted(components))


class _WignerRows(torch.autograd.Function):
    """Rows |m| <= mmax of the Wigner matrices D_0 ... D_lmax of `edge_rotation`.

    Where a vector v turns by the small angles w = v x dv / v^2, its frame does: D becomes D (1 - sum_a w_a L_a), with L
    the generators of rotations. This is the derivative used: it leaves out how the roll changes, which nobody sees.
    """

    @staticmethod
    def forward(vectors: Tensor, lmax: int, mmax: int) -> tuple[Tensor, ...]:
        return tuple(_wigner_rows(edge_rotation(vectors), lmax, mmax))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(inputs[0], *output)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor, None, None]:
        vectors, *wigner = ctx.saved_tensors
        torque = torch.zeros_like(vectors)
        for l in range(1, len(wigner)):
            torque = torque - (wigner[l].mT @ g[l]).flatten(1) @ _constants(l, vectors.dtype, vectors.device).generators
        return torch.linalg.cross(torque, vectors) / _nonzero(vectors.square().sum(dim=1, keepdim=True)), None, None


def _wigner_rows(rotation: Tensor, lmax: int, mmax: int) -> list[Tensor]:
    """Each degree from the one below by the Clebsch-Gordan series.

    With C = clebsch_gordan(l - 1, 1, l), a row of D_(l-1) times a row of the rotation couples to

        sum_(k, n) D_(l-1)[i, k] R[j, n] C[k, n, :] = sum_c C[i, j, c] D_l[c, :].

    For j = y, the polar axis, one c is left on the right-hand side, the row of the same order m as i. The two rows
    |m| = l follow from sums over i and j that C itself makes: (2 l + 1) sum_(i, j) C[i, j, c] of both sides is D_l[c].
    """
    rows = [torch.ones_like(rotation[:, :1, :1])]
    for l in range(1, lmax + 1):
        constants, below = _constants(l, rotation.dtype, rotation.device), rows[-1]
        coupled = (rotation @ constants.coupling).unflatten(2, (2 * l - 1, 2 * l + 1))  # (edges, j, k, :)
        kept = min(l - 1, mmax)
        found = constants.along[l - 1 - kept : l + kept] * (below @ coupled[:, 1])
        if l <= mmax:
            across = (below[:, None] @ coupled[:, ::2]).flatten(1, 2)  # (edges, j = x and z, i)
            low, high = (constants.across @ across).split(1, dim=1)
            found = torch.cat([low, found, high], dim=1)
        rows.append(found)
    return rows


class _Constants(NamedTuple):
    """What degree l needs."""

    coupling: Tensor  # (3, (2 l - 1) (2 l + 1)): C[k, j, :]
    along: Tensor  # (2 l - 1, 1): 1 / C[m, y, m]
    across: Tensor  # (2, 2 (2 l - 1)): (2 l + 1) C[i, j, c] for c = -l and l, j = x and z
    generators: Tensor  # ((2 l + 1)^2, 3): L_a[k, j], by which components change as a vector turns about axis a


@lru_cache
def _constants(l: int, dtype: torch.dtype, device: torch.device) -> _Constants:
    coupling = clebsch_gordan(l - 1, 1, l)
    orders = torch.arange(2 * l - 1)
    found = _Constants(
        coupling.transpose(0, 1).flatten(1),
        1 / coupling[orders, 1, orders + 1, None],
        (2 * l + 1) * coupling[:, [0, 2]][..., [0, -1]].permute(2, 1, 0).flatten(1),
        _generators(l).flatten(0, 1),
    )
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return _Constants(*(x.to(device, dtype, copy=True) for x in found))


def _generators(l: int) -> Tensor:
    """(2 l + 1, 2 l + 1, 3) float64, from those of degree l - 1 and of vectors, which add up in a product."""
    axes = torch.eye(3, dtype=torch.float64)
    of_vectors = torch.linalg.cross(axes[:, None], axes[None]).permute(2, 1, 0)  # L_a[k, j] = (e_a x e_j)_k
    if l == 1:
        return of_vectors
    coupling, below = clebsch_gordan(l - 1, 1, l), _generators(l - 1)
    first = torch.einsum("ijc,ika,kjd->cda", coupling, below, coupling)
    return (2 * l + 1) * (first + torch.einsum("ijc,jna,ind->cda", coupling, of_vectors, coupling))


def _nonzero(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0)
