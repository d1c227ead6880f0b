"""Hashes of geometries, by which structures are recognised wherever they stand."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import torch

from atomsml.geometry import periodic_lattice

GRID = 1e-4  # A: geometries that agree within it count as one
FRACTIONAL_GRID = 1e-3  # of a lattice vector
SHIFT = 0.3819660112501051  # of a grid cell, irrational: decimals as people print them never lie on a boundary
BLOCK = 10_000  # structures that are worked on at a time


def geometry_hashes(
    offsets: np.ndarray, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> np.ndarray:
    """(n,) uint64 hash of each geometry: numbers, relative positions, and the cell along periodic axes.

    A structure that is shifted as a whole, or whose atoms are wrapped into the cell in another way, keeps its hash; one
    that is rotated or whose atoms are in another order does not. Positions and cell count to 1e-4 A.

    Args: as in `Columns`.
    """
    hashes = np.empty(len(cell), dtype=np.uint64)
    for start in range(0, len(cell), BLOCK):
        rows = slice(start, start + BLOCK)
        bounds = offsets[start : start + BLOCK + 1]
        atoms = slice(bounds[0], bounds[-1])
        bounds = bounds - bounds[0]
        _, relative = _relative(bounds, positions[atoms], cell[rows], pbc[rows])
        cells = _rounded(np.where(pbc[rows, :, None], cell[rows], 0.0), GRID).reshape(-1, 9)
        about = np.concatenate([pbc[rows], cells], axis=1)
        hashes[rows] = _hash_structures(bounds, numbers[atoms], _rounded(relative, GRID), about)
    return hashes


def strain_families(
    offsets: np.ndarray, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> np.ndarray:
    """(n,) uint64, equal where structures differ by their cells alone: the same fractional coordinates, to 1e-3.

    Args: as in `Columns`, but some thousand structures at most.
    """
    fractional, _ = _relative(offsets, positions, cell, pbc)
    return _hash_structures(offsets, numbers, _rounded(fractional, FRACTIONAL_GRID), pbc.astype(np.int64))


def hash_bytes(content: bytes) -> int:
    """A number below 2^64."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _hash_structures(offsets: np.ndarray, numbers: np.ndarray, grid: np.ndarray, about: np.ndarray) -> np.ndarray:
    """(n,) uint64 hash of the numbers and grid points of each structure's atoms, and of its row of `about`."""
    hashes = np.empty(len(about), dtype=np.uint64)
    for i, (first, last) in enumerate(itertools.pairwise(offsets)):
        hashes[i] = hash_bytes(numbers[first:last].tobytes() + grid[first:last].tobytes() + about[i].tobytes())
    return hashes


def _relative(
    offsets: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fractional and Cartesian vectors from the first atom of each structure to an image of every atom."""
    structure = np.repeat(np.arange(len(cell)), np.diff(offsets))
    vectors = positions - positions[offsets[:-1]][structure]
    lattice = periodic_lattice(torch.as_tensor(cell), torch.as_tensor(pbc)).numpy()
    fractional = np.einsum("ai,aij->aj", vectors, np.linalg.inv(lattice)[structure])
    # the interval starts at no decimal or simple fraction, where atoms of crystals lie
    images = np.floor(fractional + SHIFT / 10) * pbc[structure]
    return fractional - images, vectors - np.einsum("aj,ajk->ak", images, lattice[structure])


def _rounded(values: np.ndarray, step: float) -> np.ndarray:
    return np.floor(values / step + SHIFT).astype("<i8")
