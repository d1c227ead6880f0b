"""How a molecule is taken apart: an order of its atoms, and of each fragment what may be added to it.

An order begins with any heavy atom. Then one of the *candidates* is added, a pair of an atom that is there, the focus,
and an atom that is not: those that are shorter than the shortest one + TOLERANCE (Daigavane et al., arXiv:2311.16199,
section 3.1). In the order "heavy first" hydrogens are no candidates before the last heavy atom is there; the other
order does not care, so that its fragments have finished groups, as fragments from a user have.

The first k atoms of an order are its fragment k = 1 ... n. All fragments of a molecule are learnt from together.

| field of Growth | shape | meaning |
|---|---|---|
| order | (samples, nodes) | which atom comes when; padding last |
| heavy_first | (samples,) bool | which order |
| focus | (samples, nodes) | of fragment k = 1 + column: to which of its atoms, in this order, the next one is added |
| candidates | (samples, nodes, nodes, elements) | of fragment k = 1 + row: candidates of an atom of each element |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE = 0.5  # Angstrom


@dataclass(frozen=True)
class Growth:
    """Orders of a padded batch of molecules."""

    order: np.ndarray
    heavy_first: np.ndarray
    focus: np.ndarray
    candidates: np.ndarray


def grow(
    species: np.ndarray,
    heavy: np.ndarray,
    positions: np.ndarray,
    heavy_first: np.ndarray,
    elements: int,
    rng: np.random.Generator,
) -> Growth:
    """A random order of each molecule.

    Args:
        species: (samples, nodes) 0 ... elements - 1; -1 is padding.
        heavy: (samples, nodes) bool: heavy atoms.
        positions: (samples, nodes, 3), Angstrom.
    """
    samples, nodes = species.shape
    rows = np.arange(samples)
    distances = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)
    kinds = (species[:, :, None] == np.arange(elements)).astype(np.float32)
    wanted = np.where(heavy.any(axis=1, keepdims=True), heavy, species >= 0)  # H2 begins with hydrogen
    step = np.full((samples, nodes), nodes)  # at which an atom comes; padding never
    step[rows, np.where(wanted, rng.random((samples, nodes)), -1).argmax(axis=1)] = 0
    focus = np.zeros((samples, nodes), np.int64)
    candidates = np.zeros((samples, nodes, nodes, elements), np.float32)
    for k in range(1, nodes):
        missing = (step == nodes) & (species >= 0)
        heavy_missing = missing & heavy
        waits = heavy_first & heavy_missing.any(axis=1)
        allowed = np.where(waits[:, None], heavy_missing, missing)
        near = np.where((step < k)[:, :, None] & allowed[:, None, :], distances, np.inf)
        found = near < near.min(axis=(1, 2), keepdims=True) + TOLERANCE
        candidates[:, k - 1] = found @ kinds
        pair = np.where(found, rng.random(found.shape, np.float32) + 1, 0).reshape(samples, -1).argmax(axis=1)
        grows = found.any(axis=(1, 2))
        focus[grows, k - 1] = step[rows, pair // nodes][grows]
        step[rows[grows], (pair % nodes)[grows]] = k
    order = np.argsort(step, axis=1, kind="stable")
    candidates = np.take_along_axis(candidates, order[:, None, :, None], axis=2)
    return Growth(order, heavy_first, focus, candidates)
