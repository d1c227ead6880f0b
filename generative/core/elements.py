"""Chemical elements of training sets: their symbols, and which of them a generator cannot have learnt."""

from __future__ import annotations

from collections.abc import Iterable


def symbols(numbers: Iterable[int]) -> list[str]:
    """Of atomic numbers."""
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in numbers]


def check_same_elements(train: Iterable[int], valid: Iterable[int]) -> None:
    """Refuse a validation set with elements, given as atomic numbers, that are not in the training set.

    Raises:
        ValueError: names them.
    """
    strange = sorted(set(valid) - set(train))
    if strange:
        raise ValueError(
            f"the validation set has elements that the training set lacks: {', '.join(symbols(strange))}; "
            "leave those molecules out"
        )
