"""Batches of samples of nearly the same size, in an order that only the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from atomsml.generative.core.set import Batch, SampleSet
from atomsml.training.distributed import World

POOL = 50  # batches over which samples are sorted by size: the more, the less padding, and the less chance


@dataclass(frozen=True)
class SampleBatchConfig:
    """How many samples make one step; whichever bound is reached first ends a batch."""

    samples: int | None = 64  # at most; null: any number
    pairs: int | None = None  # at most: samples times the square of the number of nodes of the largest

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.samples, self.pairs) if bound is not None]
        if not bounds or min(bounds) < 1:
            raise ValueError("batch needs at least one positive bound: samples or pairs")


class SampleLoader(Generic[Batch]):
    """Passes over a set of samples in padded batches.

    An epoch is a random order, cut into pools; within a pool samples are sorted by size, cut into batches, and the
    batches of the epoch are shuffled. `conditions` are the properties that batches carry. Of several processes each has
    its share of every batch.
    """

    def __init__(
        self,
        samples: SampleSet[Batch],
        batch: SampleBatchConfig,
        seed: int,
        conditions: Sequence[str] = (),
        world: World | None = None,
    ) -> None:
        self.samples, self.batch, self.seed, self.conditions = samples, batch, seed, tuple(conditions)
        self.world = world or World()
        self._planned: tuple[int, list[np.ndarray]] = (-1, [])

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Indices of the samples of every batch of an epoch."""
        if self._planned[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order, sizes = rng.permutation(len(self.samples)), self.samples.sizes
            batches = []
            pool = POOL * self._usual_batch()
            for start in range(0, len(order), pool):
                part = order[start : start + pool]
                batches += self._cut(part[np.argsort(sizes[part], kind="stable")])
            self._planned = (epoch, [batches[i] for i in rng.permutation(len(batches))])
        return self._planned[1]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch | None]:
        """This process's share of the batches of an epoch from number `start`; None where it has none."""
        for rows in self.plan(epoch)[start:]:
            share = rows[self.world.rank :: self.world.size]
            yield self.samples.batch(share, self.conditions) if len(share) else None

    def in_order(self) -> Iterator[tuple[int, Batch]]:
        """All samples from small to large, for evaluation: batches with their numbers, each for one process."""
        for number, rows in enumerate(self._cut(np.argsort(self.samples.sizes, kind="stable"))):
            if number % self.world.size == self.world.rank:
                yield number, self.samples.batch(rows, self.conditions)

    def _usual_batch(self) -> int:
        """How many samples of the root mean square size fit."""
        bounds = [len(self.samples)]
        if self.batch.samples is not None:
            bounds.append(self.batch.samples)
        if self.batch.pairs is not None:
            bounds.append(max(int(self.batch.pairs / np.square(self.samples.sizes).mean()), 1))
        return min(bounds)

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        """Batches of samples that are sorted by size; one that is too large for the bounds is alone."""
        batches, start = [], 0
        sizes = self.samples.sizes[order]
        for stop in range(1, len(order) + 1):
            count = stop + 1 - start  # if the next one came in as well
            full = stop == len(order) or (self.batch.samples is not None and count > self.batch.samples)
            if full or (self.batch.pairs is not None and count * int(sizes[stop]) ** 2 > self.batch.pairs):
                batches.append(order[start:stop])
                start = stop
        return batches
