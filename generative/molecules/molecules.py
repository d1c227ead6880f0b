"""Molecules: a padded batch of molecules, and what is asked of a generator.

| field | shape | meaning |
|---|---|---|
| numbers | (samples, nodes) | atomic numbers, int64; 0 is padding |
| positions | (samples, nodes, 3) | Angstrom; zero at padding |
| bonds | (samples, nodes, nodes) | 0 none, 1 single, 2 double, 3 triple, 4 aromatic, -1 unknown, int64; or None |
| charges | (samples, nodes) | formal charges, int64; or None |
| conditions | (samples,) each | properties by name, in the unit of the data; NaN where unknown |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import ase
import numpy as np
import torch
from torch import Tensor

from atomsml.generative.graphs.graphs import MolecularGraphs


@dataclass(frozen=True)
class Molecules:
    """A batch of open systems of different sizes; its atoms come first, its padding last."""

    numbers: Tensor
    positions: Tensor
    bonds: Tensor | None = None
    conditions: dict[str, Tensor] = field(default_factory=dict)
    charges: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """(samples, nodes) bool: atoms, not padding."""
        return self.numbers > 0

    @property
    def sizes(self) -> Tensor:
        """(samples,) number of atoms."""
        return self.mask.sum(dim=1)

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device | str) -> Molecules:
        """The same batch on another device."""
        return Molecules(
            self.numbers.to(device),
            self.positions.to(device),
            None if self.bonds is None else self.bonds.to(device),
            {name: values.to(device) for name, values in self.conditions.items()},
            None if self.charges is None else self.charges.to(device),
        )

    def replace(self, **changes: Tensor) -> Molecules:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @staticmethod
    def from_ase(images: Sequence[ase.Atoms], dtype: torch.dtype = torch.float32) -> Molecules:
        """Without bonds and conditions; centres of geometry are moved to the origin."""
        nodes = max(map(len, images), default=0)
        numbers = np.zeros((len(images), nodes), np.int64)
        positions = np.zeros((len(images), nodes, 3))
        for i, atoms in enumerate(images):
            numbers[i, : len(atoms)] = atoms.numbers
            positions[i, : len(atoms)] = atoms.positions - atoms.positions.mean(axis=0)
        return Molecules(torch.from_numpy(numbers), torch.from_numpy(positions).to(dtype))

    def to_ase(self) -> list[ase.Atoms]:
        """With formal charges and `info["bonds"]`, as `atomsml.io.bonds_of_mol` makes them, where both are known."""
        images = [
            ase.Atoms(numbers[:size], positions[:size].astype(np.float64))
            for numbers, positions, size in zip(
                self.numbers.cpu().numpy(), self.positions.detach().cpu().numpy(), self.sizes.tolist(), strict=True
            )
        ]
        if self.bonds is None or self.charges is None:
            return images
        for atoms, bonds, charges in zip(images, self.bonds.cpu().numpy(), self.charges.cpu().numpy(), strict=True):
            first, second = np.nonzero(np.triu(bonds[: len(atoms), : len(atoms)]))
            atoms.info["bonds"] = np.stack([first, second, bonds[first, second]], axis=1)
            atoms.set_initial_charges(charges[: len(atoms)])
        return images


@dataclass(frozen=True)
class Request:
    """One molecule that is asked for."""

    seed: int  # of this molecule alone
    num_atoms: int  # 0: the model decides
    numbers: tuple[int, ...] | None = None  # atomic numbers, in the order of the result; None: the model draws them
    conditions: dict[str, float] = field(default_factory=dict)
    smiles: str | None = None  # of the molecule, whose atoms are in this order, hydrogens last; None: it is drawn


@dataclass(frozen=True)
class Scaffold:
    """Atoms that a molecule must contain, where they are."""

    numbers: tuple[int, ...]
    positions: Tensor  # (atoms, 3), Angstrom
    hydrogens: tuple[int, ...] | None = None  # how many each atom may carry; None: any number
    graph: MolecularGraphs | None = None  # of one sample: its bonds, and as many hydrogens; None: they are not known

    def __post_init__(self) -> None:
        if len(self.numbers) != len(self.positions) or len(self.hydrogens or self.numbers) != len(self.numbers):
            raise ValueError(
                f"a scaffold of {len(self.numbers)} atoms needs as many positions, not {len(self.positions)}, and as "
                "many numbers of hydrogens"
            )


def padded(rows: Sequence[Sequence[int]], padding: int = 0) -> Tensor:
    """(samples, nodes) int64 of rows of different lengths."""
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=padding)
