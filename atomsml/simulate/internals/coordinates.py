"""Lengths, angles and torsions, and how they change with the positions; many at once."""

from __future__ import annotations

import torch
from torch import Tensor


def internal_values(points: Tensor, counts: Tensor) -> Tensor:
    """(n,) of the first 2, 3 or 4 of each row of points: a length in A, or an angle or torsion in radians.

    Torsions lie between -pi and pi and have the sign of IUPAC: positive where the last atom stands clockwise of the
    first, seen along the bond in the middle.

    Args:
        points: (n, 4, 3) A.
        counts: (n,) how many of them count; where it is 0 the value is 0.
    """
    found = points.new_zeros(len(points))
    for count, function in ((2, _length), (3, _angle), (4, _torsion)):
        chosen = counts == count
        found[chosen] = function(points[chosen])
    return found


def internal_gradients(points: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The values, and (n, 4, 3) their derivatives by the points."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        values = internal_values(points, counts)
        (gradients,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), gradients


def differences(values: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Values less targets; of torsions the short way round."""
    apart = values - targets
    return torch.where(counts == 4, torch.remainder(apart + torch.pi, 2 * torch.pi) - torch.pi, apart)


def _length(points: Tensor) -> Tensor:
    return torch.linalg.vector_norm(points[:, 1] - points[:, 0], dim=1)


def _angle(points: Tensor) -> Tensor:
    first, second = points[:, 0] - points[:, 1], points[:, 2] - points[:, 1]
    across = torch.linalg.vector_norm(torch.linalg.cross(first, second), dim=1)
    return torch.atan2(across, (first * second).sum(dim=1))


def _torsion(points: Tensor) -> Tensor:
    first, axis, last = (points[:, i + 1] - points[:, i] for i in range(3))
    one, other = torch.linalg.cross(first, axis), torch.linalg.cross(axis, last)
    along = torch.linalg.vector_norm(axis, dim=1) * (first * other).sum(dim=1)
    return torch.atan2(along, (one * other).sum(dim=1))
