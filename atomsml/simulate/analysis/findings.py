"""Findings: what an analysis says, in numbers and tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCKS = 5  # parts of a trajectory that are compared for an error


@dataclass(frozen=True, eq=False)
class Findings:
    """Names end in their unit, in brackets where they have one."""

    numbers: dict[str, float]
    tables: dict[str, dict[str, np.ndarray]]  # columns of equal length; the first is what the others depend on


def in_blocks(values: np.ndarray, blocks: int = BLOCKS) -> list[np.ndarray]:
    """Parts of equal length, one after the other; what is left over at the beginning is left out.

    Raises:
        ValueError: fewer rows than blocks.
    """
    length = len(values) // blocks
    if length < 1:
        raise ValueError(f"{len(values)} frames are too few for an error from {blocks} parts")
    return np.split(values[len(values) - length * blocks :], blocks)


def mean_and_error(values: np.ndarray, blocks: int = BLOCKS) -> tuple[float, float]:
    """Mean of a series, and the standard error of it from the means of blocks.

    Blocks that are longer than what the series remembers are independent (Flyvbjerg and Petersen, J. Chem. Phys. 91,
    461 (1989)).

    Raises:
        ValueError: fewer values than blocks.
    """
    means = np.array([block.mean() for block in in_blocks(values, blocks)])
    return float(values.mean()), float(means.std(ddof=1) / np.sqrt(blocks))
