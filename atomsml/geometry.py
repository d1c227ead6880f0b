"""Cells and coordinates of many systems at once: wrap, fractional coordinates, volume, strain.

Rows of a cell are its lattice vectors, so Cartesian = fractional @ cell. Shapes everywhere: positions (atoms, 3), cell
(systems, 3, 3), pbc (systems, 3), and batch (atoms,), the system of each atom. All functions are pure and
differentiable where that has a meaning.
"""

from __future__ import annotations

import torch
from torch import Tensor


class ImpossibleGeometry(ValueError):
    """Atoms for which no model has an answer: two in one place, far too many near one, or no finite energy."""


def volume(cell: Tensor) -> Tensor:
    """(systems,) cell volumes |det cell|, A^3; 0 where a lattice vector is missing, positive for left-handed cells."""
    a, b, c = cell.unbind(dim=-2)
    return (a * torch.linalg.cross(b, c)).sum(dim=-1).abs()


def complete_cell(cell: Tensor) -> Tensor:
    """Replace zero lattice vectors by unit vectors orthogonal to the others and to each other.

    The result is right-handed wherever a vector was missing; a cell without any vectors becomes the identity. Cells
    that miss none come back unchanged, singular ones too.
    """
    given = (cell != 0).any(dim=-1)  # (systems, 3)
    if cell.device.type == "cpu" and given.all():  # a GPU would have to be waited for
        return cell
    count = given.sum(dim=-1)
    cell = torch.where(count[:, None, None] == 0, torch.eye(3, dtype=cell.dtype, device=cell.device), cell)
    # one given: the row after it takes a vector orthogonal to it and to the Cartesian axis least parallel to it
    only = cell.sum(dim=-2)
    axis = (only.abs().argmin(dim=-1, keepdim=True) == torch.arange(3, device=cell.device)).to(cell.dtype)
    row_after = given.roll(1, dims=-1) & (count[:, None] == 1)
    cell = torch.where(row_after[..., None], _unit(torch.linalg.cross(only, axis))[:, None], cell)
    # now at most one is missing: the normal of the other two
    normal = _unit(torch.linalg.cross(cell.roll(-1, dims=-2), cell.roll(-2, dims=-2)))
    return torch.where((cell != 0).any(dim=-1, keepdim=True), cell, normal)


def periodic_lattice(cell: Tensor, pbc: Tensor) -> Tensor:
    """The cell with the vectors of open axes replaced by unit vectors orthogonal to the periodic ones.

    Which cell an atom is in depends on the periodic vectors alone; the vector of an open axis must not tilt it.
    """
    return complete_cell(torch.where(pbc[..., None], cell, 0))


def to_fractional(positions: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
    """(atoms, 3) coordinates in units of the lattice vectors; the cells must not be singular (see `complete_cell`)."""
    return torch.bmm(positions[:, None], torch.linalg.inv(cell)[batch])[:, 0]


def to_cartesian(fractional: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
    """(atoms, 3) positions in A, the inverse of `to_fractional`; the cells may be singular."""
    return torch.bmm(fractional[:, None], cell[batch])[:, 0]


def wrap(positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Move atoms into the cell along its periodic axes; nothing moves along open axes.

    Zero vectors of open axes are completed first. The atoms move by whole lattice vectors: gradients pass unchanged.

    Returns:
        positions (atoms, 3) with fractional coordinates in [0, 1] along periodic axes (1 only by rounding), and the
        whole cells taken off, (atoms, 3) int64: positions = wrapped + shifts @ cell.
    """
    lattice = complete_cell(cell)
    shifts = torch.where(pbc[batch], to_fractional(positions.detach(), lattice, batch).floor(), 0)
    return positions - to_cartesian(shifts, lattice, batch), shifts.long()


def apply_strain(positions: Tensor, cell: Tensor, strain: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Deform positions and cells by (1 + strain); strain (systems, 3, 3) is the symmetric small-strain tensor."""
    return positions + torch.bmm(positions[:, None], strain[batch])[:, 0], cell + cell @ strain


def _unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1; a zero vector stays zero."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(norm > 0, norm, 1)
