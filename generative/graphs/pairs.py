"""Pairs of atoms in a list, i > j, sorted by i: those of the first m atoms are the first m (m - 1) / 2.

So a sample of a padded batch has its own pairs first and its padding last, as it has its atoms.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor


@cache
def pair_atoms(nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(pairs,) the two atoms of every pair."""
    i, j = torch.tril_indices(nodes, nodes, -1, device=device)
    return i, j


@cache
def _places(nodes: int, device: torch.device) -> Tensor:
    """(nodes^2,) the number of the pair of two atoms; of an atom with itself the number of pairs."""
    i, j = pair_atoms(nodes, device)
    places = torch.full((nodes, nodes), len(i), device=device)
    places[i, j] = places[j, i] = torch.arange(len(i), device=device)
    return places.flatten()


def num_pairs(sizes: Tensor) -> Tensor:
    """(samples,) of samples with so many atoms."""
    return sizes * (sizes - 1) // 2


def to_list(dense: Tensor) -> Tensor:
    """(samples, nodes, nodes, ...) -> (samples, pairs, ...): the entries i > j."""
    i, j = pair_atoms(dense.shape[1], dense.device)
    return dense[:, i, j]


def to_dense(pairs: Tensor) -> Tensor:
    """(samples, pairs, ...) -> (samples, nodes, nodes, ...), symmetric, zero on the diagonal."""
    nodes = (1 + math.isqrt(1 + 8 * pairs.shape[1])) // 2
    padded = torch.cat([pairs, pairs.new_zeros(len(pairs), 1, *pairs.shape[2:])], dim=1)
    return padded.index_select(1, _places(nodes, pairs.device)).unflatten(1, (nodes, nodes))
