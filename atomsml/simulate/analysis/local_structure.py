"""Local structure: which crystal the neighbours of each atom look like, by common-neighbour analysis.

Two neighbours of an atom are bonded where they are nearer to each other than a cutoff. The signature of a neighbour
counts (Faken and Jonsson, Comput. Mater. Sci. 2, 279 (1994))

    n, b, l   neighbours that it shares with the atom, bonds among these, and bonds in the largest connected part

| kind | nearest | signatures |
|---|---:|---|
| fcc | 12 | 12 x 421 |
| hcp | 12 | 6 x 421, 6 x 422 |
| icosahedral | 12 | 12 x 555 |
| bcc | 14 | 8 x 666, 6 x 444 |
| cubic, hexagonal diamond | the 12 second | as fcc, as hcp |

The cutoff is the atom's own: halfway between the shells of the perfect crystal, scaled to its nearest neighbours
(Stukowski, Modelling Simul. Mater. Sci. Eng. 20, 045021 (2012)); for diamond the second neighbours are the neighbours
of the four nearest (Maras et al., Comput. Phys. Commun. 205, 13 (2016)). Elements are not told apart.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from atomsml.neighbors import neighbor_list
from atomsml.simulate.analysis.findings import BLOCKS, Findings, mean_and_error
from atomsml.simulate.analysis.motion import Motion
from atomsml.simulate.analysis.rdf import MOST_FRAMES

KINDS = ("other", "fcc", "hcp", "bcc", "icosahedral", "cubic diamond", "hexagonal diamond")
OTHER, FCC, HCP, BCC, ICOSAHEDRAL, CUBIC_DIAMOND, HEXAGONAL_DIAMOND = range(len(KINDS))

NEAREST = 14  # neighbours that are looked at
REACH = 1.8  # times the cube root of the volume of an atom: there are some 24 atoms within in a uniform crystal
MIDWAY = (1 + np.sqrt(2)) / 2  # between the first shell, 1, and the second of fcc, sqrt 2

Array = NDArray[np.float64]


def analyze(motion: Motion) -> Findings:
    """The share of each kind of structure among all atoms, over time."""
    motion.require_frames(1)
    every = -(-len(motion.positions) // MOST_FRAMES)
    frames = range(0, len(motion.positions), every)
    shares = np.array([shares_of(local_structure(motion.positions[i], motion.cell[i], motion.pbc)) for i in frames])
    (axis, x), *_ = motion.axis.items()
    numbers = {}
    for kind, share in zip(KINDS, shares.T, strict=True):
        if share.any():
            numbers[kind] = float(share.mean())
            if len(share) >= BLOCKS:
                numbers[f"error of {kind}"] = mean_and_error(share)[1]
    there = [i for i in range(len(KINDS)) if shares[:, i].any()]
    return Findings(numbers, {"structure": {axis: x[::every], **{KINDS[i]: shares[:, i] for i in there}}})


def shares_of(kinds: NDArray[np.int64]) -> Array:
    """(kinds,) the share of each of KINDS."""
    return np.bincount(kinds, minlength=len(KINDS)) / len(kinds)


def local_structure(positions: Array, cell: Array, pbc: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(atoms,) the place in KINDS of the structure around each atom.

    Raises:
        ValueError: the system is not periodic along all axes.
    """
    if not pbc.all():
        raise ValueError("the system is not periodic along all axes")
    vectors = nearest_vectors(positions, cell)  # (atoms, 14, 3)
    found = np.where(_is_bcc(vectors), BCC, OTHER)
    second, complete = second_vectors(positions, cell)
    diamond = np.where(complete, _close_packed(second), OTHER)
    found = np.where(diamond == FCC, CUBIC_DIAMOND, np.where(diamond == HCP, HEXAGONAL_DIAMOND, found))
    packed = _close_packed(vectors[:, :12])
    return np.where(packed != OTHER, packed, found)


def nearest_vectors(positions: Array, cell: Array, count: int = NEAREST) -> Array:
    """(atoms, count, 3) vectors to the nearest neighbours of each atom, nearest first; A."""
    receivers, _, vectors = _neighbors(positions, cell, count)
    first = np.searchsorted(receivers, np.arange(len(positions)))
    return vectors[first[:, None] + np.arange(count)]


def second_vectors(positions: Array, cell: Array) -> tuple[Array, NDArray[np.bool_]]:
    """(atoms, 12, 3) vectors to the three other nearest neighbours of each of the four nearest.

    And (atoms,) whether each of the four counts the atom itself among its four nearest, as in diamond.
    """
    receivers, senders, vectors = _neighbors(positions, cell, 4)
    rows = np.searchsorted(receivers, np.arange(len(positions)))[:, None] + np.arange(4)
    first, theirs = vectors[rows], vectors[rows][senders[rows]]  # (atoms, 4, 3), (atoms, 4, 4, 3)
    reached = first[:, :, None] + theirs  # (atoms, 4, 4, 3), one of each four is the atom itself
    length = np.linalg.norm(reached, axis=3)
    back = length.argmin(axis=2)
    complete = (length.min(axis=2) < 1e-6 * np.linalg.norm(first, axis=2)).all(axis=1)
    others = np.argsort(np.arange(4) == back[:, :, None], axis=2, kind="stable")[:, :, :3]
    return np.take_along_axis(reached, others[..., None], axis=2).reshape(len(positions), 12, 3), complete


def _neighbors(positions: Array, cell: Array, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Receivers, senders and vectors of pairs, of which each atom has `count` or more, nearest first."""
    atoms = len(positions)
    place, lattice = torch.from_numpy(positions), torch.from_numpy(np.asarray(cell, dtype=np.float64))
    reach = REACH * (abs(np.linalg.det(cell)) / atoms) ** (1 / 3)
    while True:
        edges, offsets = neighbor_list(
            place, lattice[None], torch.ones(1, 3, dtype=torch.bool), reach, torch.zeros(atoms, dtype=torch.int64)
        )
        senders, receivers = edges.numpy()
        if np.bincount(receivers, minlength=atoms).min() >= count:
            break
        reach *= 1.3  # atoms beside a void
    vectors = positions[senders] + offsets.numpy() @ cell - positions[receivers]
    order = np.lexsort([np.linalg.norm(vectors, axis=1), receivers])
    return receivers[order], senders[order], vectors[order]


def _close_packed(vectors: Array) -> NDArray[np.int64]:
    """(atoms,) FCC, HCP, ICOSAHEDRAL or OTHER by (atoms, 12, 3) vectors to neighbours."""
    cutoff = MIDWAY * np.linalg.norm(vectors, axis=2).mean(axis=1)
    signatures = _signatures(vectors, cutoff)
    count = {each: (signatures == each).sum(axis=1) for each in (421, 422, 555)}
    found = np.full(len(vectors), OTHER)
    found[count[421] == 12] = FCC
    found[(count[421] == 6) & (count[422] == 6)] = HCP
    found[count[555] == 12] = ICOSAHEDRAL
    return found


def _is_bcc(vectors: Array) -> NDArray[np.bool_]:
    """(atoms,) by (atoms, 14, 3) vectors to neighbours."""
    length = np.linalg.norm(vectors, axis=2)
    edge = (2 / np.sqrt(3) * length[:, :8].sum(axis=1) + length[:, 8:].sum(axis=1)) / 14  # of the cube
    signatures = _signatures(vectors, MIDWAY * edge)
    found: NDArray[np.bool_] = ((signatures == 666).sum(axis=1) == 8) & ((signatures == 444).sum(axis=1) == 6)
    return found


def _signatures(vectors: Array, cutoff: Array) -> NDArray[np.int64]:
    """(atoms, neighbours) signature of each neighbour, as the number 421; see the head of this file."""
    apart = np.linalg.norm(vectors[:, :, None] - vectors[:, None], axis=3)
    count = vectors.shape[1]
    bonded = (apart < cutoff[:, None, None]) & ~np.eye(count, dtype=bool)  # (atoms, neighbours, neighbours)
    shared = bonded[:, :, :, None] & bonded[:, :, None, :] & bonded[:, None]  # bonds k-l among those shared with j
    bonds = shared.sum(axis=(2, 3)) // 2
    linked = (shared | np.eye(count, dtype=bool)).astype(np.float32)
    for _ in range(3):  # paths of up to eight bonds
        linked = np.minimum(linked @ linked, 1)
    parts = np.einsum("ajkl,ajl->ajk", linked, shared.sum(axis=3)) // 2  # bonds in the part of each k
    found: NDArray[np.int64] = (100 * bonded.sum(axis=2) + 10 * bonds + parts.max(axis=2)).astype(np.int64)
    return found
