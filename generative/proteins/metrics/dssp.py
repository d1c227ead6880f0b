"""Helices and strands by hydrogen bonds: DSSP (Kabsch and Sander, Biopolymers 22, 2577, 1983).

An N-H donates to a C=O if E = 27.9 kcal/mol A (1/r_ON + 1/r_CH - 1/r_OH - 1/r_CN) is below -0.5 kcal/mol. H stands 1 A
from N, opposite to the C=O before it; a first residue and proline have none. Each N-H gives to its two best at most.

| letter | pattern |
|---|---|
| H, G, I | two turns of 4, 3, 5 residues, one after the other: N-H of i + n donates to C=O of i |
| B | a bridge: two residues, three or more apart, joined by two bonds as in a parallel or antiparallel sheet |
| E | bridges of one kind one after the other: a ladder, in which a bulge of one residue facing four may stand |
| - | all else, of which DSSP names turns and bends |

Where patterns meet, H comes first, then E, B, G and I.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from atomsml.generative.proteins.metrics.geometry import breaks_of

STRENGTH = 27.9  # kcal/mol Angstrom
BONDED = -0.5  # kcal/mol
N_H = 1.0  # Angstrom
REACH = 9.0  # Angstrom between CA, beyond which nothing is bonded
CLOSEST = 0.5  # Angstrom: at this distance formulas of points end, and what is closer counts as there
BULGE = 1, 4  # residues that may stand between two ladders, on the one strand and on the other
HELIX, STRAND, COIL = "HGI", "EB", "-"


@dataclass(frozen=True)
class Ladder:
    """Bridges of one kind, one after the other, between residues of two strands; the ends are included."""

    parallel: bool
    first: tuple[int, int]
    second: tuple[int, int]  # ascending, of either kind
    bridges: int

    def gaps(self, other: Ladder) -> tuple[int, int]:
        """Residues between this ladder and one that follows it, on both strands; negative where they overlap."""
        before, after = (self.second, other.second) if self.parallel else (other.second, self.second)
        return other.first[0] - self.first[1] - 1, after[0] - before[1] - 1

    def joined(self, other: Ladder) -> Ladder:
        """With one that follows it, and what is between."""
        second = min(self.second[0], other.second[0]), max(self.second[1], other.second[1])
        return Ladder(self.parallel, (self.first[0], other.first[1]), second, self.bridges + other.bridges)


def assign(coordinates: np.ndarray, sequence: str) -> str:
    """A letter for each residue, of its atoms (residues, 4, 3): N, CA, C and O. Chains may be broken.

    The sequence matters for proline alone.
    """
    bonds = hydrogen_bonds(coordinates, sequence)
    piece = np.zeros(len(sequence), int)  # the number of the unbroken piece that a residue is in
    piece[breaks_of(coordinates) + 1] = 1
    piece = np.cumsum(piece)
    letters = np.full(len(sequence), COIL)
    for ladder in ladders(bonds, piece):
        for start, end in (ladder.first, ladder.second):
            strand = letters[start : end + 1]
            strand[strand != "E"] = "E" if ladder.bridges > 1 else "B"
    for letter, size in (("H", 4), ("G", 3), ("I", 5)):
        turn = np.diagonal(bonds, -size) & (piece[size:] == piece[:-size])
        for start in (np.flatnonzero(turn[1:] & turn[:-1]) + 1).tolist():
            helix = letters[start : start + size]
            if letter == "H" or np.isin(helix, [COIL, letter]).all():
                helix[:] = letter
    return "".join(letters)


def hydrogen_bonds(coordinates: np.ndarray, sequence: str) -> np.ndarray:
    """(residues, residues) bool: N-H of the one donates to C=O of the other."""
    n, ca, c, o = np.asarray(coordinates, np.float64).transpose(1, 0, 2)
    h = n.copy()
    h[1:] += N_H * (c - o)[:-1] / np.linalg.norm(c - o, axis=-1, keepdims=True)[:-1]
    on, ch, oh, cn = (1 / np.maximum(_distances(*pair), CLOSEST) for pair in ((n, o), (h, c), (h, o), (n, c)))
    energy = STRENGTH * (on + ch - oh - cn)
    donates = np.array([letter != "P" for letter in sequence], bool)
    donates[:1] = False
    donates[breaks_of(coordinates) + 1] = False
    place = np.arange(len(n))
    apart = place[:, None] - place  # by 1: of the same peptide group
    possible = donates[:, None] & (apart != 0) & (apart != 1) & (_distances(ca, ca) < REACH)
    energy = np.where(possible, energy, np.inf)
    bonds = np.zeros_like(possible)
    for best in np.argsort(energy, axis=1)[:, :2].T:
        bonds[place, best] = True
    return bonds & (energy < BONDED)


def ladders(bonds: np.ndarray, piece: np.ndarray) -> list[Ladder]:
    """All ladders, across bulges, and bridges that stand alone as ladders of one."""
    found: list[Ladder] = []
    for parallel in (True, False):
        whole: list[Ladder] = []
        for ladder in _straight_ladders(bonds, piece, parallel):
            for place, earlier in enumerate(whole):
                if _bulge(earlier, ladder, piece):
                    whole[place] = earlier.joined(ladder)
                    break
            else:
                whole.append(ladder)
        found += whole
    return found


def _bulge(earlier: Ladder, later: Ladder, piece: np.ndarray) -> bool:
    """Whether no more than a bulge is between two ladders of the same kind, and no break."""
    gaps = earlier.gaps(later)
    small = min(gaps) >= 0 and min(gaps) <= BULGE[0] and max(gaps) <= BULGE[1]
    strands = (earlier.first, later.first), (earlier.second, later.second)
    return small and all(piece[one[0]] == piece[other[0]] for one, other in strands)


def _straight_ladders(bonds: np.ndarray, piece: np.ndarray, parallel: bool) -> Iterator[Ladder]:
    """Without bulges, ascending by the residue that they begin with."""
    bridged = _bridges(bonds, piece, parallel)
    step = 1 if parallel else -1
    for i, j in np.argwhere(bridged):
        if bridged[i - 1, j - step]:
            continue  # not the first of its ladder; bridges have residues on all sides
        size = 1
        while bridged[i + size, j + step * size]:
            size += 1
        ends = int(j), int(j) + step * (size - 1)
        yield Ladder(parallel, (int(i), int(i) + size - 1), (min(ends), max(ends)), size)


def _bridges(bonds: np.ndarray, piece: np.ndarray, parallel: bool) -> np.ndarray:
    """(residues, residues) bool: bridges of residues with others that are three or more later."""
    residues = len(piece)
    bridged = np.zeros((residues, residues), bool)
    if residues < 3:
        return bridged
    before, here, after = slice(0, -2), slice(1, -1), slice(2, None)

    def joined(donor: slice, acceptor: slice) -> np.ndarray:
        return bonds[donor, acceptor]

    if parallel:
        there = joined(after, here) & joined(here, before).T | joined(here, before) & joined(after, here).T
    else:
        there = joined(after, before) & joined(after, before).T | joined(here, here) & joined(here, here).T
    unbroken = piece[after] == piece[before]
    bridged[1:-1, 1:-1] = np.triu(there & unbroken[:, None] & unbroken, 3)
    return bridged


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a[:, None] - b, axis=-1)
