"""Equivariant optimal transport: noise that lies as near as possible to the data with which it is trained.

Noise of a molecule may be rotated, reflected, and exchanged among like atoms without changing its distribution. Taking
the nearest of all these images makes the paths of flow matching short and nearly straight, so that few steps follow
them (Song et al., "EquiFM", arXiv:2312.07168; Klein et al., arXiv:2306.15030). Assignment and rotation are found in
turn, as neither is known without the other.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ROUNDS = 2


def nearest_noise(noise: Tensor, data: Tensor, groups: Tensor, rotate: Tensor) -> Tensor:
    """The image of `noise` (samples, nodes, 3) that is near to `data`, both on the CPU.

    Args:
        groups: (samples, nodes) int; noise is exchanged among nodes of the same group; -1 keeps its noise.
        rotate: (samples,) bool, whether the noise of a sample may be rotated and reflected about the origin.
    """
    moves = (groups >= 0)[..., None]
    for _ in range(ROUNDS):
        order = _assign(noise.numpy(), data.numpy(), groups.numpy())
        noise = torch.gather(noise, 1, torch.from_numpy(order)[..., None].expand_as(noise))
        turned = noise @ nearest_rotation(noise * moves, data * moves)
        noise = torch.where(rotate[:, None, None] & moves, turned, noise)
    return noise


def nearest_rotation(x: Tensor, y: Tensor) -> Tensor:
    """(samples, 3, 3) orthogonal R, proper or not, with the least |x R - y|^2 (Kabsch, Acta Cryst. A 32, 922, 1976)."""
    u, _, vh = torch.linalg.svd(x.mT @ y)
    return u @ vh


def _assign(noise: np.ndarray, data: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(samples, nodes) which noise each node gets, at least total squared distance within each group."""
    order = np.tile(np.arange(noise.shape[1]), (len(noise), 1))
    for row, (x, y, group) in enumerate(zip(noise, data, groups, strict=True)):
        for label in np.unique(group[group >= 0]):
            members = np.flatnonzero(group == label)
            if len(members) > 1:
                # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, and the squares are the same for every assignment
                nodes, chosen = linear_sum_assignment(y[members] @ x[members].T, maximize=True)
                order[row, members[nodes]] = members[chosen]
    return order
