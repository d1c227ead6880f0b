"""All graphs with given valences, by trying every order of every pair."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

import networkx
import numpy as np


@cache
def molecules(valences: tuple[int, ...]) -> np.ndarray:
    """(graphs, atoms, atoms) orders 0 ... 3 of all connected graphs with these valences, of at most 5 atoms."""
    n = len(valences)
    i, j = np.tril_indices(n, -1)
    orders = np.array(list(itertools.product(range(4), repeat=len(i))))
    dense = np.zeros((len(orders), n, n), np.int64)
    dense[:, i, j] = dense[:, j, i] = orders
    dense = dense[(dense.sum(axis=2) == valences).all(axis=1)]
    connected = [networkx.is_connected(networkx.from_numpy_array(bonds)) for bonds in dense]
    return dense[np.array(connected, bool)]


def all_valences(n: int, highest: int = 4) -> list[tuple[int, ...]]:
    """Of n atoms, in any order that matters not."""
    return list(itertools.combinations_with_replacement(range(highest + 1), n))


def completions(partly: np.ndarray, valences: Sequence[int], undecided: int) -> np.ndarray:
    """The molecules with the decided orders of `partly` (atoms, atoms)."""
    found = molecules(tuple(valences))
    return found[((found == partly) | (partly == undecided)).all(axis=(1, 2))]
