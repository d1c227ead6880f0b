"""Batches of molecules of nearly the same size, in an order that only the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from atomsml.generative.molecules.molecules import Molecules
from atomsml.generative.molecules.set import MoleculeSet

POOL = 50  # batches over which molecules are sorted by size: the more, the less padding, and the less chance


@dataclass(frozen=True)
class MoleculeBatchConfig:
    """How many molecules make one step; whichever bound is reached first ends a batch."""

    molecules: int | None = 64  # at most; null: any number
    pairs: int | None = None  # at most: molecules times the square of the size of the largest

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.molecules, self.pairs) if bound is not None]
        if not bounds or min(bounds) < 1:
            raise ValueError("batch needs at least one positive bound: molecules or pairs")


class MoleculeLoader:
    """Passes over a set of molecules in padded batches.

    An epoch is a random order, cut into pools; within a pool molecules are sorted by size, cut into batches, and the
    batches of the epoch are shuffled. `conditions` are the properties that batches carry.
    """

    def __init__(
        self, molecules: MoleculeSet, batch: MoleculeBatchConfig, seed: int, conditions: Sequence[str] = ()
    ) -> None:
        self.molecules, self.batch, self.seed, self.conditions = molecules, batch, seed, tuple(conditions)
        self._planned: tuple[int, list[np.ndarray]] = (-1, [])

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Indices of the molecules of every batch of an epoch."""
        if self._planned[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order, sizes = rng.permutation(len(self.molecules)), self.molecules.sizes
            batches = []
            pool = POOL * self._usual_batch()
            for start in range(0, len(order), pool):
                part = order[start : start + pool]
                batches += self._cut(part[np.argsort(sizes[part], kind="stable")])
            self._planned = (epoch, [batches[i] for i in rng.permutation(len(batches))])
        return self._planned[1]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Molecules]:
        """The batches of an epoch from number `start`."""
        for rows in self.plan(epoch)[start:]:
            yield self.molecules.batch(rows, self.conditions)

    def in_order(self) -> Iterator[Molecules]:
        """All molecules from small to large: for evaluation."""
        for rows in self._cut(np.argsort(self.molecules.sizes, kind="stable")):
            yield self.molecules.batch(rows, self.conditions)

    def _usual_batch(self) -> int:
        """How many molecules of the root mean square size fit."""
        bounds = [len(self.molecules)]
        if self.batch.molecules is not None:
            bounds.append(self.batch.molecules)
        if self.batch.pairs is not None:
            bounds.append(max(int(self.batch.pairs / np.square(self.molecules.sizes).mean()), 1))
        return min(bounds)

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        """Batches of molecules that are sorted by size; one that is too large for the bounds is alone."""
        batches, start = [], 0
        sizes = self.molecules.sizes[order]
        for stop in range(1, len(order) + 1):
            count = stop + 1 - start  # if the next one came in as well
            full = stop == len(order) or (self.batch.molecules is not None and count > self.batch.molecules)
            if full or (self.batch.pairs is not None and count * int(sizes[stop]) ** 2 > self.batch.pairs):
                batches.append(order[start:stop])
                start = stop
        return batches
