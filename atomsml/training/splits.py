"""The labelled structures of a run: read, weighted, and divided into training, validation and test sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atomsml.dataset import Dataset, Found, content_hashes, group_hashes, isolated_atoms, read_dataset
from atomsml.training.config import SourceConfig, TrainingConfig


@dataclass(frozen=True)
class Splits:
    """What a run trains on, is chosen by, and is judged by."""

    train: Dataset
    valid: Dataset
    test: Dataset | None
    replay: Dataset | None  # of what the model that is fine-tuned was trained on
    warnings: tuple[str, ...]

    def named(self) -> dict[str, Dataset]:
        found = {"train": self.train, "valid": self.valid, "test": self.test, "replay": self.replay}
        return {name: dataset for name, dataset in found.items() if dataset is not None}

    def counts(self) -> list[dict[str, int | str]]:
        """One row for each set: its name, how many structures it has, and how many of them carry each label."""
        return [{"set": n, "structures": len(d), **d.label_counts()} for n, d in self.named().items()]

    def found(self) -> list[Found]:
        """Which keys of which files the labels come from, each file once."""
        each = [found for dataset in self.named().values() for found in dataset.found]
        return [found for i, found in enumerate(each) if found not in each[:i]]


def read_splits(config: TrainingConfig) -> Splits:
    """Read the files of a run and hold out what is asked for, by content or group, never by position.

    Raises:
        ValueError: no training file, a file without labels, a set that becomes empty; names it.
        OSError: a file that cannot be read.
    """
    data = config.data
    if not data.train:
        raise ValueError("no training data; give data.train in the config, or --train FILE")
    train = read_sources(data.train)
    held, kept = _hold_out(train, {"test": data.test, "valid": data.valid}, data.split_by)
    sets: dict[str, Dataset] = {"train": kept}
    for name, wanted in (("valid", data.valid), ("test", data.test)):
        if not isinstance(wanted, tuple):
            sets[name] = held[name]
        elif wanted:
            sets[name] = read_sources(wanted)
    if "valid" not in sets:
        raise ValueError("a run needs validation data, by which the best model is chosen; give a file or a fraction")
    for name, dataset in sets.items():
        if len(dataset) == 0:
            raise ValueError(f"the {name} set has no structures; give more data, or another fraction")
    replay = read_sources(config.finetune.replay) if config.finetune.replay else None
    return Splits(sets["train"], sets["valid"], sets.get("test"), replay, tuple(_leaks(sets)))


def read_sources(sources: Sequence[SourceConfig]) -> Dataset:
    """All structures of some files, one after the other, each with the weight of its file."""
    return Dataset.concatenate([read_dataset(s.file, s.keys).with_weight(s.weight) for s in sources])


def _hold_out(
    train: Dataset, wanted: dict[str, tuple[SourceConfig, ...] | float], by: str
) -> tuple[dict[str, Dataset], Dataset]:
    """The parts of `train` that are asked for as fractions or numbers, and what is left."""
    amounts = {name: amount for name, amount in wanted.items() if not isinstance(amount, tuple)}
    if not amounts:
        return {}, train
    position = np.full(len(train), 2.0)  # beyond what is held out: isolated atoms, which are references
    others = np.flatnonzero(~isolated_atoms(train))
    if len(others):
        rest = train.subset(others)
        position[others] = (group_hashes(rest) if by == "group" else content_hashes(rest)) / 2.0**64
    ordered, start, held = np.sort(position), 0.0, {}
    for name, amount in amounts.items():
        if 0 < amount < 1:
            stop = start + amount
        elif amount >= 1 and amount == round(amount) and np.searchsorted(ordered, start) + int(amount) < len(others):
            stop = float(ordered[np.searchsorted(ordered, start) + int(amount)])
        else:
            raise ValueError(
                f"data.{name} must be files, a fraction between 0 and 1, or a number of structures below "
                f"{len(others)}; got {amount:g}"
            )
        held[name] = train.subset(np.flatnonzero((position >= start) & (position < stop)))
        start = stop
    return held, train.subset(np.flatnonzero(position >= start))


def _leaks(sets: dict[str, Dataset]) -> list[str]:
    """A warning for every set that shares geometries with the training set."""
    trained = content_hashes(sets["train"])
    warnings = []
    for name, dataset in sets.items():
        shared = 0 if name == "train" else int(np.isin(content_hashes(dataset), trained).sum())
        if shared:
            warnings.append(f"{shared} of {len(dataset)} structures of the {name} set are in the training set as well")
    return warnings
