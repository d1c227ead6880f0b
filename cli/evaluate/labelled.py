"""The labelled structures of `atomsml evaluate`: read, joined, and without those that the model cannot treat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from atomsml.dataset import Dataset, LabelKeys, read_dataset
from atomsml.dataset.inspection.check import suspicious
from atomsml.electronic_state import ElectronicState, mismatch, unlikely
from atomsml.io import Refused
from atomsml.potential import check_elements


@dataclass(frozen=True)
class Labelled:
    """Structures of some files, and those that were left out."""

    dataset: Dataset
    types: np.ndarray  # (structures,) config type; of several files, the file's name where there is none
    files: tuple[str, ...]
    file_of: np.ndarray  # (structures,) which of the files
    frame_of: np.ndarray  # (structures,) place in that file
    refused: tuple[Refused, ...]

    def where(self, index: int) -> str:
        """The file and place of a structure."""
        return f"{self.files[self.file_of[index]]}, frame {self.frame_of[index]}"

    def say(self) -> None:
        """Which keys the labels come from, and what about them looks wrong."""
        for line in (line for labels in self.dataset.found for line in labels.lines()):
            typer.echo(line, err=True)
        for line in suspicious(self.dataset):
            typer.echo(f"warning: {line}", err=True)


def read_labelled(inputs: Sequence[str], keys: LabelKeys, elements: tuple[int, ...], strict: bool) -> Labelled:
    """Read and join all files.

    Args:
        elements: which the model knows; structures with others are refused.
        strict: whether the first structure that cannot be treated is an error.

    Raises:
        OSError: a file that is missing.
        ValueError: a file without a structure that can be treated; with `strict` any such structure.
    """
    parts, frames = [], []
    refused: list[Refused] = []
    for path in inputs:
        mine: list[Refused] = []
        parts.append(read_dataset(path, keys, None if strict else mine))
        size = len(parts[-1])
        left_out = [each.index for each in mine if each.index is not None]
        frames.append(np.setdiff1d(np.arange(size + len(left_out)), left_out)[:size])
        refused += mine
    dataset, types = Dataset.concatenate(parts), np.concatenate([part.config_types.astype(str) for part in parts])
    file_of = np.repeat(np.arange(len(inputs)), [len(part) for part in parts])
    if len(inputs) > 1:
        types = np.where(types == "", np.array([Path(path).name for path in inputs])[file_of], types)
    data = Labelled(dataset, types, tuple(inputs), file_of, np.concatenate(frames), tuple(refused))
    return _with_known_elements(data, elements, strict)


def _with_known_elements(data: Labelled, elements: tuple[int, ...], strict: bool) -> Labelled:
    """Without structures that have elements which the model does not know."""
    unknown = ~np.isin(np.arange(119), elements)
    refused: list[Refused] = []
    strange: list[int] = []
    for start, counts in data.dataset.compositions():
        for row in np.flatnonzero(counts[:, unknown].any(axis=1)).tolist():
            index = start + row
            try:
                check_elements(np.flatnonzero(counts[row]).tolist(), elements)
            except ValueError as error:
                if strict or len(strange) + 1 == len(data.dataset):
                    raise ValueError(f"{data.where(index)}: {error}") from None
                refused.append(Refused(data.files[data.file_of[index]], int(data.frame_of[index]), str(error)))
                strange.append(index)
    if not strange:
        return data
    rows = np.setdiff1d(np.arange(len(data.dataset)), strange)
    return Labelled(
        data.dataset.subset(rows),
        data.types[rows],
        data.files,
        data.file_of[rows],
        data.frame_of[rows],
        (*data.refused, *refused),
    )


def check_states(data: Labelled, model: ElectronicState) -> None:
    """Refuse a file whose structures are all of another charge or spin than the model; warn where some are.

    What needs no statement, an odd number of electrons or a known triplet, is warned of, with the first structure.

    Raises:
        ValueError: names the file.
    """
    for found in data.dataset.found:
        reasons = [(mismatch(state, model), count) for state, count in found.states]
        others = [(reason, count) for reason, count in reasons if reason is not None]
        number = sum(count for _, count in others)
        if number and number == found.structures:
            raise ValueError(f"{found.path}: of each structure, {others[0][0]}")
        if number:
            typer.echo(f"warning: {found.path}: of {number} of {found.structures} structures, {others[0][0]}", err=True)
    strange = _strange(data.dataset, model)
    if strange:
        count, first, reason = len(strange), *min(strange.items())
        typer.echo(
            f"warning: {count} of {len(data.dataset)} structures cannot be what the model was made for; the first is "
            f"{data.where(first)}: {reason}",
            err=True,
        )


def _strange(dataset: Dataset, model: ElectronicState) -> dict[int, str]:
    """Structures without a statement that the electrons of the model do not fit, and why."""
    if model.spin is None or any(mismatch(state, model) for found in dataset.found for state, _ in found.states):
        return {}
    strange: dict[int, str] = {}
    for start, counts in dataset.compositions():
        compositions, which = np.unique(counts, axis=0, return_inverse=True)
        for k, composition in enumerate(compositions):
            numbers = np.repeat(np.arange(119), composition).tolist()
            reason = unlikely(numbers, False, ElectronicState(), model)
            if reason is not None:
                strange.update(dict.fromkeys((start + np.flatnonzero(which == k)).tolist(), reason))
    return strange
