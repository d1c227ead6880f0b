"""SampleSet: samples that a generator learns from, and the part of them that is held out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, Self, TypeVar

import numpy as np

from atomsml.dataset.content import hash_bytes

Batch = TypeVar("Batch")


class SampleSet(ABC, Generic[Batch]):
    """Samples in memory. `warnings` says what is odd about them; `properties` are numbers (samples,) by name."""

    warnings: tuple[str, ...]
    properties: Mapping[str, np.ndarray]

    @property
    @abstractmethod
    def sizes(self) -> np.ndarray:
        """(samples,) number of nodes."""

    @abstractmethod
    def hashes(self) -> np.ndarray:
        """(samples,) uint64, equal for equal samples wherever they stand."""

    def groups(self) -> np.ndarray:
        """(samples,) uint64, equal for samples of which none is held out alone; by default for equal ones."""
        return self.hashes()

    @abstractmethod
    def subset(self, rows: np.ndarray) -> Self:
        """Copies of the samples `rows`, in that order; without the warnings."""

    @abstractmethod
    def batch(self, rows: np.ndarray, conditions: Sequence[str] = ()) -> Batch:
        """The samples `rows` as a network sees them, with the properties `conditions`."""

    @abstractmethod
    def describe(self) -> str:
        """A line for the log of a run: how many there are, and of which sort."""

    def __len__(self) -> int:
        return len(self.sizes)


Samples = TypeVar("Samples", bound=SampleSet[object])


def hold_out(samples: Samples, amount: float, seed: int) -> tuple[Samples, Samples]:
    """The training set and what is held out of it: `amount` is a fraction, or from 1 on a number of samples.

    A fraction makes one sample at least. Where a sample belongs follows from its content and the seed alone, never
    from its place in a file; those of one group, as identical ones, are together, and one group is held out at least.

    Raises:
        ValueError: an amount that leaves one of the two without samples.
    """
    count = len(samples)
    if count < 2:
        raise ValueError(f"nothing can be held out of {count} sample; give more, or a file of others")
    hashes = np.array([hash_bytes(b"%d %d" % (seed, content)) for content in samples.groups().tolist()], np.uint64)
    wanted = max(round(amount * count), 1) if 0 < amount < 1 else amount
    if not 1 <= wanted < count or wanted != round(wanted):
        raise ValueError(
            f"the held-out part must be a fraction between 0 and 1 or a number of samples below {count}, got {amount:g}"
        )
    held = hashes < np.sort(hashes)[round(wanted)]
    if not held.any():  # of few large groups one
        held = hashes == hashes.min()
    if held.all():
        raise ValueError(f"the {count} samples are too alike to hold out {amount:g} of them; give more")
    return samples.subset(np.flatnonzero(~held)), samples.subset(np.flatnonzero(held))
