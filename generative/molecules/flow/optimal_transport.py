"""Equivariant optimal transport: noise that lies as near as possible to the data with which it is trained.

Noise of a molecule may be rotated, reflected, and exchanged among like atoms without changing its distribution. Taking
the nearest of all these images makes the paths of flow matching short and nearly straight, so that few steps follow
them (Song et al., "EquiFM", arXiv:2312.07168; Klein et al., arXiv:2306.15030). Assignment and rotation are found in
turn, as neither is known without the other.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ROUNDS = 2
ENUMERATED = 4  # atoms of a group: all orders of so few are tried, for many molecules at once


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
    samples, nodes = np.nonzero(groups >= 0)
    labels = groups[samples, nodes]
    sorting = np.lexsort((nodes, labels, samples))
    samples, nodes, labels = samples[sorting], nodes[sorting], labels[sorting]
    begins = np.diff(samples, prepend=-1).astype(bool) | np.diff(labels, prepend=-1).astype(bool)
    first = np.flatnonzero(begins)
    sizes = np.diff(first, append=len(nodes))
    for size in np.unique(sizes[sizes > 1]).tolist():  # all groups of one size at once
        mine = first[sizes == size]
        sample, members = samples[mine][:, None], nodes[mine[:, None] + np.arange(size)]
        # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, and the squares are the same for every assignment
        gains = data[sample, members] @ noise[sample, members].swapaxes(1, 2)
        order[sample, members] = np.take_along_axis(members, _best(gains), axis=1)
    return order


def _best(gains: np.ndarray) -> np.ndarray:
    """(groups, size) the column that each row takes, of (groups, size, size), for the largest sums."""
    size = gains.shape[1]
    if size > ENUMERATED:
        return np.stack([linear_sum_assignment(each, maximize=True)[1] for each in gains])
    orders = np.array(list(itertools.permutations(range(size))))
    return orders[gains[:, np.arange(size), orders].sum(axis=2).argmax(axis=1)]
