"""Rotations in three dimensions as unit quaternions, and the best superposition of two sets of points.

A quaternion q = (cos(w/2), axis sin(w/2)), scalar first, is the rotation by the angle w about the axis; q and -q are
the same rotation. A rotation vector is the axis times the angle in radians. Quaternions keep their accuracy at both
ends of the exponential map: where the angle goes to zero, and where it goes to pi and the antisymmetric part of the
matrix, from which the axis is otherwise read, disappears.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def quaternion_exp(vectors: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of rotation vectors (..., 3)."""
    half = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) / 2
    return torch.cat([torch.cos(half), vectors * torch.sinc(half / math.pi) / 2], dim=-1)


def quaternion_log(quaternions: Tensor) -> Tensor:
    """Rotation vectors (..., 3), of length at most pi, of unit quaternions (..., 4).

    At an angle of exactly pi both axes give the same rotation; one of them comes back.
    """
    quaternions = torch.where(quaternions[..., :1] < 0, -quaternions, quaternions)
    cosine, vector = quaternions[..., :1], quaternions[..., 1:]
    sine = torch.linalg.vector_norm(vector, dim=-1, keepdim=True).clamp_min(1e-20)  # far below rounding: no 0 / 0
    return 2 * torch.atan2(sine, cosine) / sine * vector


def quaternion_multiply(first: Tensor, second: Tensor) -> Tensor:
    """The quaternion (..., 4) whose rotation applies `second`, then `first`; the product of their matrices."""
    a, u = first[..., :1], first[..., 1:]
    b, v = second[..., :1], second[..., 1:]
    u, v = torch.broadcast_tensors(u, v)
    scalar = a * b - (u * v).sum(dim=-1, keepdim=True)
    return torch.cat([scalar, a * v + b * u + torch.linalg.cross(u, v)], dim=-1)


def quaternion_inverse(quaternions: Tensor) -> Tensor:
    """The unit quaternions (..., 4) of the inverse rotations."""
    return torch.cat([quaternions[..., :1], -quaternions[..., 1:]], dim=-1)


def quaternion_to_matrix(quaternions: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3), which act on columns, of unit quaternions (..., 4)."""
    w, x, y, z = quaternions.unbind(dim=-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(matrices: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of rotation matrices (..., 3, 3).

    The elements of the matrix give 4 q q^T. Every row of that is a multiple of q; the one with the largest diagonal
    element, which is at least 1, is not lost in rounding.
    """
    m = [row.unbind(dim=-1) for row in matrices.unbind(dim=-2)]
    x, y, z = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    xy, xz, yz = m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]
    rows = [
        [1 + m[0][0] + m[1][1] + m[2][2], x, y, z],
        [x, 1 + m[0][0] - m[1][1] - m[2][2], xy, xz],
        [y, xy, 1 - m[0][0] + m[1][1] - m[2][2], yz],
        [z, xz, yz, 1 - m[0][0] - m[1][1] + m[2][2]],
    ]
    outer = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)  # (..., 4, 4)
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)[..., None, None]
    row = torch.take_along_dim(outer, largest, dim=-2)[..., 0, :]
    return row / torch.linalg.vector_norm(row, dim=-1, keepdim=True)


def superposition(points: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The rotations R (samples, 3, 3) and shifts (samples, 1, 3) that bring points nearest to their targets.

    x @ R^T + shift minimises the sum of squared distances over proper rotations (Kabsch, Acta Cryst. A 34, 827, 1978):
    with the singular value decomposition U S V^T of sum_i (y_i - y) (x_i - x)^T, R = U diag(1, 1, det U det V) V^T.

    Args:
        points, targets: (samples, nodes, 3).
        mask: (samples, nodes) bool, the points that count; a sample without any is not moved.
    """
    weights = mask.to(points.dtype)[..., None]
    count = weights.sum(dim=1, keepdim=True).clamp_min(1)
    center, target = (points * weights).sum(1, keepdim=True) / count, (targets * weights).sum(1, keepdim=True) / count
    covariance = ((targets - target) * weights).transpose(1, 2) @ (points - center)
    u, _, vt = torch.linalg.svd(covariance)
    proper = torch.ones_like(u[:, 0])
    proper[:, 2] = torch.linalg.det(u) * torch.linalg.det(vt)
    rotation = u * proper[:, None, :] @ vt
    return rotation, target - center @ rotation.transpose(1, 2)
