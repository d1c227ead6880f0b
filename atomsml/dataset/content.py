"""Hashes of geometries, by which structures are recognised wherever they stand."""

from __future__ import annotations

import hashlib

import numpy as np

GRID = 1e-4  # A: geometries that agree within it count as one
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
        grid, cells = _on_grid(bounds - bounds[0], positions[bounds[0] : bounds[-1]], cell[rows], pbc[rows])
        block_numbers, block_pbc = numbers[bounds[0] : bounds[-1]], pbc[rows]
        for i, (first, last) in enumerate(zip(bounds[:-1] - bounds[0], bounds[1:] - bounds[0], strict=True)):
            parts = block_numbers[first:last], grid[first:last], block_pbc[i], cells[i]
            hashes[start + i] = hash_bytes(b"".join(part.tobytes() for part in parts))
    return hashes


def hash_bytes(content: bytes) -> int:
    """A number below 2^64."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _on_grid(
    offsets: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Integers for the positions, from the first atom of each structure to its nearest image, and for the cells."""
    structure = np.repeat(np.arange(len(cell)), np.diff(offsets))
    relative = positions - positions[offsets[:-1]][structure]
    periodic_rows = np.where(pbc[:, :, None], cell, 0.0)
    full = _complete(periodic_rows)
    fractional = np.einsum("ai,aij->aj", relative, np.linalg.inv(full)[structure])
    # the interval starts at no decimal or simple fraction, where atoms of crystals lie
    images = np.floor(fractional + SHIFT / 10) * pbc[structure]
    wrapped = relative - np.einsum("aj,ajk->ak", images, full[structure])
    return _rounded(wrapped), _rounded(periodic_rows)


def _rounded(lengths: np.ndarray) -> np.ndarray:
    return np.floor(lengths / GRID + SHIFT).astype("<i8")


def _complete(cell: np.ndarray) -> np.ndarray:
    """Cells (n, 3, 3) whose rows of zeros are replaced by unit vectors normal to the other rows."""
    _, _, directions = np.linalg.svd(cell)
    missing = np.all(cell == 0, axis=2)
    # the right singular vectors beyond the rank span what the rows do not
    vector = np.clip(3 - np.cumsum(missing, axis=1), 0, 2)
    return np.where(missing[:, :, None], np.take_along_axis(directions, vector[:, :, None], axis=1), cell)
