"""United atoms: heavy atoms with the hydrogens they carry, of which molecules are composed before they have a shape.

A united atom is an element with a number of hydrogens, as CH3 or OH. Half of the atoms of an organic molecule are
hydrogens whose places follow from the rest: a generator that is told which united atoms there are has a skeleton
with a few heavy atoms to build, and knows the valences that it must leave open.

Which united atoms make up a molecule is drawn from those of the training molecules that have its formula. For a formula
that was never seen, hydrogens are given to the heavy atoms by the frequencies p(hydrogens | element) of the training
set, under the condition that their sum is right: exactly, by the forward sums of a chain of independent draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

MOST_HYDROGENS = 4
KINDS = MOST_HYDROGENS + 1  # 0 ... 4 hydrogens


def parents(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(atoms,) the heavy atom that is nearest to each hydrogen; -1 for heavy atoms.

    Raises:
        ValueError: a molecule without heavy atoms, or a heavy atom with too many hydrogens.
    """
    heavy, hydrogens = np.flatnonzero(numbers > 1), np.flatnonzero(numbers == 1)
    if len(heavy) == 0:
        raise ValueError("a molecule without heavy atoms has no skeleton; leave it out of the training set")
    found = np.full(len(numbers), -1)
    squared = np.square(positions[hydrogens, None] - positions[None, heavy]).sum(axis=-1)
    found[hydrogens] = heavy[squared.argmin(axis=1)]
    carried = np.bincount(found[hydrogens], minlength=1)
    if carried.max() > MOST_HYDROGENS:
        raise ValueError(
            f"a molecule with {carried.max()} hydrogens about one atom, more than {MOST_HYDROGENS}; leave it out"
        )
    return found


class UnitedAtoms:
    """Draws united atoms.

    Args:
        heavy: the atomic numbers of the heavy elements.
        sets: (sets, len(heavy) * KINDS) how many united atoms of each type a training molecule has; the type of element
            e with h hydrogens is e * KINDS + h.
        counts: (sets,) how many training molecules have it.
    """

    def __init__(self, heavy: Sequence[int], sets: np.ndarray, counts: np.ndarray) -> None:
        self.heavy, self.sets, self.counts = tuple(heavy), sets, counts.astype(np.float64)
        by_element = sets.reshape(len(sets), len(heavy), KINDS)
        self._atoms = by_element.sum(axis=2)  # (sets, heavy)
        self._hydrogens = (by_element * np.arange(KINDS)).sum(axis=(1, 2))  # (sets,)
        frequencies = (by_element * self.counts[:, None, None]).sum(axis=0)
        self._frequencies = frequencies / np.maximum(frequencies.sum(axis=1, keepdims=True), 1)  # (heavy, KINDS)

    def draw(
        self, numbers: Sequence[int], most: Sequence[int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The hydrogens that each heavy atom carries, and the heavy atom of each hydrogen.

        Args:
            numbers: atomic numbers, heavy atoms first.
            most: for the first heavy atoms, which are a scaffold, how many hydrogens each may carry.

        Raises:
            ValueError: there is no way to do it.
        """
        heavy = [self.heavy.index(z) for z in numbers if z > 1]
        hydrogens = len(numbers) - len(heavy)
        carried = self._seen(heavy, hydrogens, most, rng)
        if carried is None:
            carried = self._chain(heavy, hydrogens, most, rng)
        return carried, np.repeat(np.arange(len(heavy)), carried)

    def _seen(
        self, heavy: Sequence[int], hydrogens: int, most: Sequence[int], rng: np.random.Generator
    ) -> np.ndarray | None:
        """Hydrogens of each heavy atom as in a training molecule of the same formula, or None."""
        atoms = np.bincount(heavy, minlength=len(self.heavy))
        rows = np.flatnonzero((self._atoms == atoms).all(axis=1) & (self._hydrogens == hydrogens))
        if len(rows) == 0:
            return None
        for row in rng.choice(rows, len(rows), replace=False, p=self.counts[rows] / self.counts[rows].sum()):
            carried = _hand_out(heavy, self.sets[row].reshape(-1, KINDS), most, rng)
            if carried is not None:
                return carried
        return None

    def _chain(self, heavy: Sequence[int], hydrogens: int, most: Sequence[int], rng: np.random.Generator) -> np.ndarray:
        """Independent draws of the hydrogens of each heavy atom, on the condition that they sum to `hydrogens`."""
        limits = [*most, *[MOST_HYDROGENS] * (len(heavy) - len(most))]
        tables = [
            np.where(np.arange(KINDS) <= limit, self._frequencies[e], 0) for e, limit in zip(heavy, limits, strict=True)
        ]
        sums = [np.ones(1)]  # weights of the sums of the last atoms
        for table in reversed(tables):
            sums.append(np.convolve(sums[-1], table))
        left, carried = hydrogens, []
        for table, rest in zip(tables, reversed(sums[:-1]), strict=True):
            weights = np.array([w * rest[left - h] if 0 <= left - h < len(rest) else 0.0 for h, w in enumerate(table)])
            if weights.sum() == 0:
                raise ValueError(
                    f"the model cannot give {hydrogens} hydrogens to {len(heavy)} heavy atoms in a way it has seen; "
                    "change the formula or the scaffold"
                )
            carried.append(int(rng.choice(KINDS, p=weights / weights.sum())))
            left -= carried[-1]
        return np.array(carried)


def _hand_out(
    heavy: Sequence[int], kinds: np.ndarray, most: Sequence[int], rng: np.random.Generator
) -> np.ndarray | None:
    """Deal the united atoms `kinds` (elements, KINDS) to the heavy atoms; None where the scaffold leaves no place.

    The atoms that may carry least choose first.
    """
    left = kinds.copy()
    limits = [*most, *[MOST_HYDROGENS] * (len(heavy) - len(most))]
    carried = np.zeros(len(heavy), np.int64)
    for i in sorted(range(len(heavy)), key=lambda i: (limits[i], rng.random())):
        weights = np.where(np.arange(KINDS) <= limits[i], left[heavy[i]], 0).astype(np.float64)
        if weights.sum() == 0:
            return None
        carried[i] = rng.choice(KINDS, p=weights / weights.sum())
        left[heavy[i], carried[i]] -= 1
    return carried


def count_sets(rows: Sequence[tuple[np.ndarray, np.ndarray]], heavy: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct sets of united atoms and how often each occurs, from (numbers, parents) of every molecule."""
    seen: Counter[tuple[int, ...]] = Counter()
    for numbers, parent in rows:
        types = united_types(numbers, parent, heavy)
        seen[tuple(np.bincount(types[types >= 0], minlength=len(heavy) * KINDS).tolist())] += 1
    ordered = sorted(seen)
    table = np.array(ordered, np.int32).reshape(-1, len(heavy) * KINDS)
    return table, np.array([seen[s] for s in ordered], np.int32)


def united_types(numbers: np.ndarray, parent: np.ndarray, heavy: Sequence[int]) -> np.ndarray:
    """(atoms,) the type of each heavy atom, -1 for hydrogens."""
    carried = np.bincount(parent[parent >= 0], minlength=len(numbers))
    index = {z: i for i, z in enumerate(heavy)}
    return np.array([index[int(z)] * KINDS + h if z > 1 else -1 for z, h in zip(numbers, carried, strict=True)])
