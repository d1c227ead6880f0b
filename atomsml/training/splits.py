"""The labelled structures of a run: read, weighted, and divided into training, validation and test sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atomsml.dataset import Dataset, Found, content_hashes, group_hashes, isolated_atoms, read_dataset
from atomsml.dataset.inspection.check import suspicious
from atomsml.io import Refused
from atomsml.training.config import SourceConfig, TrainingConfig


@dataclass(frozen=True)
class Splits:
    """What a run trains on, is chosen by, and is judged by."""

    train: Dataset
    valid: Dataset
    test: Dataset | None
    replay: Dataset | None  # of what the model that is fine-tuned was trained on
    warnings: tuple[str, ...]
    refused: tuple[Refused, ...] = ()  # structures of the files that cannot be used

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
    warnings: list[str] = []
    if not data.train:
        raise ValueError("no training data; give data.train in the config, or --train FILE")
    refused: list[Refused] = []
    train = read_sources(data.train, None if data.strict else refused, config.charges)
    read = {
        name: read_sources(wanted, None if data.strict else refused, config.charges)
        for name, wanted in (("valid", data.valid), ("test", data.test), ("replay", config.finetune.replay))
        if isinstance(wanted, tuple) and wanted
    }
    for dataset in (train, *read.values()):
        warnings += suspicious(dataset)
    train, said = without_strangers(train)
    warnings += said
    held, kept, said = _hold_out(train, {"test": data.test, "valid": data.valid}, data.split_by)
    sets: dict[str, Dataset] = {"train": kept, **held, **read}
    replay = sets.pop("replay", None)
    if "valid" not in sets:
        raise ValueError("a run needs validation data, by which the best model is chosen; give a file or a fraction")
    warnings += [*said, *_leaks(sets)]
    return Splits(
        sets["train"], sets["valid"], sets.get("test"), replay, tuple(dict.fromkeys(warnings)), tuple(refused)
    )


def read_sources(sources: Sequence[SourceConfig], refused: list[Refused] | None, charges: bool = False) -> Dataset:
    """All structures of some files, one after the other, each with the weight of its file; see `read_dataset`.

    With `charges`, those and multipoles are looked for under the usual names unless keys are given.
    """
    keys = [s.keys.with_multipoles() if charges else s.keys for s in sources]
    read = [read_dataset(s.file, own, refused).with_weight(s.weight) for s, own in zip(sources, keys, strict=True)]
    return Dataset.concatenate(read)


def without_strangers(train: Dataset) -> tuple[Dataset, list[str]]:
    """A training set without isolated atoms of elements that nothing else has, of which nothing could be learned.

    Raises:
        ValueError: there is nothing but isolated atoms.
    """
    isolated = isolated_atoms(train)
    if not isolated.any():
        return train, []
    if isolated.all():
        raise ValueError("the training set has isolated atoms only, from which no bond can be learned; add structures")
    known = train.subset(np.flatnonzero(~isolated)).elements
    alone = np.flatnonzero(isolated)
    strange = alone[~np.isin(train.columns(alone).numbers, known)]
    if not len(strange):
        return train, []
    symbols = _symbols(set(train.columns(strange).numbers.tolist()))
    warning = (
        f"{symbols}: only isolated atoms of the training set are of this element, so that nothing can be learned of "
        "it; they are left out, and the model will not know it"
    )
    return train.subset(np.setdiff1d(np.arange(len(train)), strange)), [warning]


def _hold_out(
    train: Dataset, wanted: dict[str, tuple[SourceConfig, ...] | float], by: str
) -> tuple[dict[str, Dataset], Dataset, list[str]]:
    """The parts of `train` that are asked for as fractions or numbers, what is left, and what is to be said.

    A part has the lowest hashes that are still there, equal ones together, so that neither the order of the files nor
    the position in them matters. A fraction is rounded to a number, which is at least one. Isolated atoms, which are
    references, and what would take an element out of the training set stay there.
    """
    amounts = {name: amount for name, amount in wanted.items() if not isinstance(amount, tuple)}
    if not amounts:
        return {}, train, []
    others = np.flatnonzero(~isolated_atoms(train))
    rest = train.subset(others)
    hashes = group_hashes(rest) if by == "group" else content_hashes(rest)
    needed = _last_of_each_element(rest, hashes)
    free, last = ~needed, np.uint64(0)
    held: dict[str, Dataset] = {}
    for name, amount in amounts.items():
        number = max(1, round(amount * len(rest))) if 0 < amount < 1 else int(amount)
        if not (0 < amount < 1 or (amount == number and 1 <= number < len(rest) - sum(map(len, held.values())))):
            raise ValueError(
                f"data.{name} must be files, a fraction between 0 and 1, or a number of structures below "
                f"{len(rest)}; got {amount:g}"
            )
        if not free.any() or (amount >= 1 and number > free.sum()):
            files = ", ".join(found.path for found in train.found)
            raise ValueError(
                f"{files}: the {name} set cannot have {number} structures: {int(free.sum())} of {len(rest)} can be "
                f"held out without taking an element from the training set; give --{name} NUMBER, as in --{name} 1, "
                "more data, or a file"
            )
        values, counts = np.unique(hashes[free], return_counts=True)
        groups = max(1, int(np.searchsorted(np.cumsum(counts), number, side="right")))
        mine = free & (hashes <= values[groups - 1])
        held[name], free, last = rest.subset(np.flatnonzero(mine)), free & ~mine, values[groups - 1]
    moved = np.flatnonzero(needed & (hashes <= last))
    taken = np.isin(np.arange(len(train)), others[~free & ~needed])
    return held, train.subset(np.flatnonzero(~taken)), _say_moved(rest, moved)


def _last_of_each_element(dataset: Dataset, hashes: np.ndarray) -> np.ndarray:
    """(n,) bool: for each element the structures, of one hash, that are the last of those with it to be held out."""
    highest = np.zeros(119, dtype=np.uint64)
    for start, counts in dataset.compositions():
        has = np.where(counts > 0, hashes[start : start + len(counts), None], 0)
        highest = np.maximum(highest, has.max(axis=0))
    return np.isin(hashes, highest[highest > 0])


def _say_moved(dataset: Dataset, moved: np.ndarray) -> list[str]:
    """What stays in the training set although its hash is among those that are held out."""
    if not len(moved):
        return []
    return [
        f"{len(moved)} structures with {_symbols(set(dataset.subset(moved).elements))} stay in the training set "
        "instead of being held out, which would then lack an element"
    ]


def _symbols(elements: set[int]) -> str:
    from ase.data import chemical_symbols

    return " ".join(chemical_symbols[z] for z in sorted(elements))


def _leaks(sets: dict[str, Dataset]) -> list[str]:
    """A warning for every set that shares geometries with the training set."""
    trained = content_hashes(sets["train"])
    warnings = []
    for name, dataset in sets.items():
        shared = 0 if name == "train" else int(np.isin(content_hashes(dataset), trained).sum())
        if shared:
            warnings.append(f"{shared} of {len(dataset)} structures of the {name} set are in the training set as well")
    return warnings
