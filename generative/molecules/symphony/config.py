"""Hyperparameters of Symphony."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass


@dataclass(frozen=True)
class SymphonyConfig:
    """Widths of the network, and what it learns of."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    conditions: tuple[str, ...] = ()  # properties that may be asked for: none
    num_formulas: int = 0  # of the training set: size of a table
    channels: int = 32
    lmax: int = 3
    num_layers: int = 3
    num_gaussians: int = 24
    cutoff: float = 5.0
    hidden: int = 32  # channels that are multiplied with each other
    readout_channels: int = 128
    num_mixtures: int = 12  # of distances
    num_peaks: int = 4  # channels of directions
    avg_num_neighbors: float = 10.0

    def __post_init__(self) -> None:
        if self.conditions:
            raise ValueError("symphony learns no conditions; leave them out, or train another generator")
        if list(self.elements) != sorted(set(self.elements)) or not self.elements:
            raise ValueError(f"elements must ascend, got {reprlib.repr(self.elements)}")
