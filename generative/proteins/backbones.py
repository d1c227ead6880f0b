"""Backbones: a padded batch of chains as frames, one chain with its atoms, and what is asked of a generator.

A chain here is one run of residues, each bonded to the next: where a protein has a gap, another chain begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.generative.proteins.geometry import atoms_of, frames_of


@dataclass(frozen=True)
class Chain:
    """The backbone of one chain, for files and measures.

    | field | shape | meaning |
    |---|---|---|
    | coordinates | (residues, 4, 3) | N, CA, C and O, Angstrom, float64 |
    | sequence | (residues,) | one-letter codes, X where unknown; G where nothing decides |
    | labels | (residues,) | the number of each in its file, with its insertion code, such as 52A |
    | name | | its letter in the file |
    | scores | (residues,) | what goes into the column of B-factors; or None for zeros |
    | where | | the file it comes from and the model, for messages |
    """

    coordinates: np.ndarray
    sequence: str
    labels: tuple[str, ...]
    name: str = "A"
    scores: np.ndarray | None = None
    where: str = ""

    def __post_init__(self) -> None:
        if not len(self.coordinates) == len(self.sequence) == len(self.labels):
            raise ValueError(
                f"{self.where or 'a chain'}: {len(self.coordinates)} residues need as many letters and numbers, "
                f"got {len(self.sequence)} and {len(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.sequence)


@dataclass(frozen=True)
class Backbones:
    """A batch of chains of different lengths; residues come first, padding last.

    | field | shape | meaning |
    |---|---|---|
    | quaternions | (samples, residues, 4) | orientations of the frames (geometry.py); zero at padding |
    | positions | (samples, residues, 3) | places of CA, Angstrom; zero at padding |
    | mask | (samples, residues) | bool: residues, not padding |
    """

    quaternions: Tensor
    positions: Tensor
    mask: Tensor

    @property
    def sizes(self) -> Tensor:
        """(samples,) number of residues."""
        return self.mask.sum(dim=1)

    def __len__(self) -> int:
        return len(self.mask)

    def to(self, device: torch.device | str) -> Backbones:
        """The same batch on another device."""
        return Backbones(self.quaternions.to(device), self.positions.to(device), self.mask.to(device))

    @staticmethod
    def from_coordinates(
        chains: Sequence[np.ndarray], dtype: torch.dtype = torch.float32, centred: bool = True
    ) -> Backbones:
        """The frames of chains of atoms (residues, 3 or 4, 3), whose places of CA are centred unless told otherwise."""
        frames = [frames_of(torch.from_numpy(np.asarray(chain, np.float64))) for chain in chains]
        pad = torch.nn.utils.rnn.pad_sequence
        return Backbones(
            pad([quaternions.to(dtype) for quaternions, _ in frames], batch_first=True),
            pad([(places - centred * places.mean(dim=0)).to(dtype) for _, places in frames], batch_first=True),
            pad([torch.ones(len(places), dtype=torch.bool) for _, places in frames], batch_first=True),
        )

    def to_chains(self) -> list[Chain]:
        """Chains of glycine with atoms of ideal geometry, numbered from 1."""
        chains = []
        for quaternions, positions, size in zip(
            self.quaternions.detach().cpu().double(),
            self.positions.detach().cpu().double(),
            self.sizes.tolist(),
            strict=True,
        ):
            coordinates = atoms_of(quaternions[:size], positions[:size]).numpy()
            chains.append(Chain(coordinates, "G" * size, tuple(str(number + 1) for number in range(size))))
        return chains


@dataclass(frozen=True)
class Motif:
    """Residues that a chain must contain, exactly where they are with respect to each other.

    | field | shape | meaning |
    |---|---|---|
    | places | (residues,) | where each is in the chain, ascending, from 0 |
    | quaternions, positions | (residues, 4), (residues, 3) | their frames, float64, Angstrom |
    """

    places: tuple[int, ...]
    quaternions: Tensor
    positions: Tensor


@dataclass(frozen=True)
class BackboneRequest:
    """One chain that is asked for."""

    seed: int  # of this chain alone
    length: int  # residues
    motif: Motif | None = None

    def __post_init__(self) -> None:
        if self.length < 1 or (self.motif is not None and self.motif.places and self.motif.places[-1] >= self.length):
            raise ValueError(f"a chain of {self.length} residues does not hold what is asked of it")
