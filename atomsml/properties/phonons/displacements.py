"""Which displacements of an atom tell its force constants: as few as its site symmetry allows.

Operations of the site turn a displacement, and the forces after it, into others. These must span space, and come in
pairs u and -u, so that forces at rest and third derivatives cancel.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

Array = NDArray[np.float64]

# of the vectors of a cell: their sums and differences, simple ones first
STEPS = sorted(
    (step for step in product((1, 0, -1), repeat=3) if step > (0, 0, 0)), key=lambda step: sum(map(abs, step))
)
CANDIDATES = len(STEPS) + 3  # with x, y and z
SETS = [chosen for size in (1, 2, 3) for chosen in combinations(range(CANDIDATES), size)]
MEMBERS = np.array([[each in chosen for each in range(CANDIDATES)] for chosen in SETS])
SPREAD = 0.1  # the least eigenvalue of sums of u u^T, 1 of x, y and z: less would magnify noise of forces


def directions(site: Array, cell: Array) -> list[Array]:
    """Unit vectors for an atom with the rotations `site` (operations, 3, 3), of Cartesian rows.

    They are along lattice vectors, or x, y and z; of the smallest sets the one that spans space best.
    """
    reduced, _ = minkowski_reduce(cell)
    candidates = np.concatenate([np.array(STEPS) @ reduced, np.eye(3)])
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    orbits = np.einsum("ui,gij->ugj", candidates, site)
    spread = np.einsum("ugi,ugj->uij", orbits, orbits) / len(site)
    opposite = np.any(np.abs(orbits + candidates[:, None]).max(axis=2) < 1e-6, axis=1)
    least = np.linalg.eigvalsh(np.einsum("su,uij->sij", MEMBERS, spread))[:, 0]
    images = MEMBERS @ np.where(opposite, 1, 2)
    images[least < SPREAD] = 7  # more than x, y and z take, both ways
    best = np.lexsort([-least.round(6), images])[0]
    return [sign * candidates[u] for u in SETS[best] for sign in ((1,) if opposite[u] else (1, -1))]
