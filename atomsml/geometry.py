"""Cells and coordinates of many systems at once: wrap, fractional coordinates, volume, strain.

Rows of a cell are its lattice vectors, so Cartesian = fractional @ cell. Shapes everywhere: positions (atoms, 3), cell
(systems, 3, 3), pbc (systems, 3), and batch (atoms,), the system of each atom. All functions are pure and
differentiable where that has a meaning.
"""

from __future__ import annotations

import torch
from torch import Tensor


def volume(cell: Tensor) -> Tensor:
    """(systems,) cell volumes |det cell|, A^3; 0 where a lattice vector is missing, positive for left-handed cells."""
    return torch.linalg.det(cell).abs()


def complete_cell(cell: Tensor) -> Tensor:
    """Replace zero lattice vectors by unit vectors orthogonal to the others.

    A missing third vector is the normalised cross product of the other two. Where two are missing, the first of them
    is the Cartesian axis least parallel to the given vector, made orthogonal to it. All three missing give the identity.
    Cells without zero vectors come back unchanged, singular ones too.
    """
    rows = list(cell.unbind(dim=-2))  # three of (systems, 3)
    axes = torch.eye(3, dtype=cell.dtype, device=cell.device)
    for k in range(3):
        after, before = rows[(k + 1) % 3], rows[(k + 2) % 3]
        normal = torch.linalg.cross(after, before)
        direction = _unit(after + before)  # the only given vector, or zero, wherever the cross product does not apply
        order = axes.roll(-k, dims=0)  # of equally good axes take the k-th, so that no vectors at all give the identity
        axis = order[(direction @ order.T).abs().argmin(dim=-1)]
        orthogonal = axis - (axis * direction).sum(dim=-1, keepdim=True) * direction
        both_given = (_is_given(after) & _is_given(before))[:, None]
        filled = _unit(torch.where(both_given, normal, orthogonal))
        rows[k] = torch.where(_is_given(rows[k])[:, None], rows[k], filled)
    return torch.stack(rows, dim=-2)


def to_fractional(positions: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
    """(atoms, 3) coordinates in units of the lattice vectors; the cells must not be singular (see `complete_cell`)."""
    return torch.einsum("ni,nij->nj", positions, torch.linalg.inv(cell)[batch])


def to_cartesian(fractional: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
    """(atoms, 3) positions in A, the inverse of `to_fractional`; the cells may be singular."""
    return torch.einsum("ni,nij->nj", fractional, cell[batch])


def wrap(positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Move atoms into the cell along its periodic axes; open axes stay as they are.

    Returns:
        positions (atoms, 3) with fractional coordinates in [0, 1] along periodic axes (1 only by rounding), and the
        whole cells taken off, (atoms, 3) int64: positions = wrapped + shifts @ cell.
    """
    # the shift depends only on the direction of the periodic vectors: an open axis must not tilt it
    lattice = complete_cell(torch.where(pbc[..., None], cell, 0))
    shifts = torch.where(pbc[batch], to_fractional(positions.detach(), lattice, batch).floor(), 0)
    return positions - to_cartesian(shifts, lattice, batch), shifts.long()


def apply_strain(positions: Tensor, cell: Tensor, strain: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Deform positions and cells by (1 + strain); strain (systems, 3, 3) is the symmetric small-strain tensor."""
    deformed = positions + torch.einsum("ni,nij->nj", positions, strain[batch])
    return deformed, cell + cell @ strain


def _is_given(vectors: Tensor) -> Tensor:
    return (vectors != 0).any(dim=-1)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1; a zero vector stays zero."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(norm > 0, norm, 1)
