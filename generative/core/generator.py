"""Generator: what training, model files and commands ask of a model that draws samples, of whatever kind.

A kind is a plural, as "molecules", which is also the word of the command `atomsml generate molecules`. It has

| noun | what it is | molecules have |
|---|---|---|
| Samples | a training set | `MoleculeSet` |
| Batch | samples that a network sees together, with `to` | `Molecules` |
| Request | one sample that is asked for: its seed at least | `Request` |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from atomsml.generative.core.samplers import find_sampler
from atomsml.generative.core.samplers.base import GridSampler
from atomsml.generative.core.set import SampleSet

Samples = TypeVar("Samples", bound=SampleSet[Any])
Request = TypeVar("Request")
Batch = TypeVar("Batch")

AT_ONCE = 256  # samples in a batch, unless a kind knows better


class Generator(nn.Module, ABC, Generic[Samples, Request, Batch]):
    """A network, its loss, and how samples are drawn from it.

    A subclass has a frozen dataclass `Config` and is built by `Model(config)`. One that can be told properties has a
    config field `conditions`, their names.
    """

    kind: ClassVar[str]  # what it draws
    suffixes: ClassVar[tuple[str, ...]]  # of the files that `write` makes, the usual one first
    Config: ClassVar[type[Any]]
    sizes: ClassVar[dict[str, dict[str, Any]]] = {"small": {}}  # name -> config fields, from quick to accurate
    default_sampler: str  # what samples are drawn with unless asked otherwise; a config may change it
    default_steps: ClassVar[int]
    has_bound: ClassVar[bool] = False  # whether there is an `nll_bound`
    config: Any

    # what it learns from

    @classmethod
    @abstractmethod
    def read(cls, files: Sequence[str | Path]) -> Samples:
        """The samples of some files, one after the other.

        Raises:
            OSError: no such file.
            ValueError: another format, or a sample that cannot be trained on; names it.
        """

    @classmethod
    def check(cls, train: Samples, valid: Samples) -> list[str]:
        """Warnings about a training set and a validation set that have been read.

        Raises:
            ValueError: they cannot be trained on; says which.
        """
        return []

    @classmethod
    def measure(cls, samples: Samples) -> dict[str, Any]:
        """Config fields that follow from a training set, such as the sizes of tables."""
        return {}

    def fit(self, samples: Samples) -> None:
        """Take what is no weight, such as tables and normalisers, from the training set that was measured."""

    def start_from(self, other: Generator[Any, Any, Any]) -> None:
        """Take the weights of another generator, trained on something like it, before the training begins.

        Raises:
            ValueError: it has none that suit.
        """
        raise ValueError(f"a {type(self).__name__} starts from random weights; leave the key start out")

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(samples,) what training minimises the mean of, at random times with random noise."""

    def nll_bound(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(samples,) in nats: an upper bound of -log p of each sample, once averaged over the draws of `generator`.

        A generator that has one says so by `has_bound`.

        Raises:
            ValueError: it has none.
        """
        raise ValueError(
            f"{type(self).__name__} has no bound of the likelihood of what it draws; the generator edm has"
        )

    # what it draws

    @abstractmethod
    def requests(self, seeds: Sequence[int]) -> list[Request]:
        """One request for every seed, with nothing fixed."""

    def batches(self, requests: Sequence[Request], at_once: int | None = None) -> list[list[int]]:
        """Places of requests in batches, without effect on what is drawn; `at_once`: at most so many in each."""
        size = at_once or AT_ONCE
        return [list(range(start, min(start + size, len(requests)))) for start in range(0, len(requests), size)]

    @abstractmethod
    def sample(self, requests: Sequence[Request], steps: int, sampler: str) -> Iterator[Batch]:
        """Samples as they form, one batch after every step; the last is the result.

        Each depends on its request alone, not on the others of the batch.

        Raises:
            ValueError: an unknown sampler, or one that the process of this model does not allow.
        """

    @classmethod
    def check_sampler(cls, name: str) -> None:
        """Refuse a sampler that there is not.

        Raises:
            ValueError: names those that there are.
        """
        find_sampler(name)

    def num_states(self, steps: int, sampler: str) -> int | None:
        """How many states `sample` yields; None where the sampler chooses its steps."""
        return steps if isinstance(find_sampler(sampler), GridSampler) else None

    # what becomes of it

    @staticmethod
    @abstractmethod
    def unpack(batch: Batch) -> list[Any]:
        """One object for each sample, without padding: what `write` and `judge` take."""

    @classmethod
    @abstractmethod
    def write(cls, path: Path, samples: Sequence[Any]) -> None:
        """Write samples in the format that the suffix of `path` means, one of `suffixes`."""

    @classmethod
    def judge(cls, samples: Sequence[Any]) -> dict[str, Any]:
        """How good samples are: numbers by name, for the summary of a training run."""
        return {}

    def describe(self) -> dict[str, Any]:
        """What a model file says of a model of this kind, beside what it says of all."""
        return {}

    def recall(self, description: Mapping[str, Any]) -> None:
        """Take from the description in a file, part of which `describe` gave, what is neither config nor tensor.

        Raises:
            ValueError: it cannot be right; files that do not have it are right.
        """

    def check_tables(self) -> None:
        """Refuse tables, read from a file, of which nothing can be drawn.

        Raises:
            ValueError: says what is wrong with them.
        """
