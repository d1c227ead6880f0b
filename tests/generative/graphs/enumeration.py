"""All graphs with given valences, by trying every order of every pair."""

from __future__ import annotations

import itertools
from functools import cache

import networkx
import numpy as np


@cache
def molecules(valences: tuple[int, ...], highest: int = 3) -> np.ndarray:
    """(graphs, atoms, atoms) orders 0 ... highest of all connected graphs of a few atoms with these valences."""
    n = len(valences)
    i, j = np.tril_indices(n, -1)
    orders = np.array(list(itertools.product(range(highest + 1), repeat=len(i))))
    dense = np.zeros((len(orders), n, n), np.int64)
    dense[:, i, j] = dense[:, j, i] = orders
    dense = dense[(dense.sum(axis=2) == valences).all(axis=1)]
    connected = [networkx.is_connected(networkx.from_numpy_array(bonds)) for bonds in dense]
    return dense[np.array(connected, bool)]


def all_valences(n: int, highest: int) -> list[tuple[int, ...]]:
    """Of n atoms whose order does not matter."""
    return list(itertools.combinations_with_replacement(range(highest + 1), n))


def completions(partly: np.ndarray, valences: np.ndarray, neighbors: np.ndarray, undecided: int) -> np.ndarray:
    """The molecules with the decided orders of `partly` (atoms, atoms), in that order of the atoms."""
    order = np.argsort(valences, kind="stable")
    back = np.argsort(order)
    found = molecules(tuple(valences[order].tolist()))[:, back][:, :, back]
    fits = ((found == partly) | (partly == undecided)).all(axis=(1, 2))
    return found[fits & ((found > 0).sum(axis=2) == neighbors).all(axis=1)]
