"""MoleculeSet: molecules for training, ragged in memory, and batches of them.

| field | shape | meaning |
|---|---|---|
| offsets | (molecules + 1,) | where the atoms of each molecule begin and end |
| numbers | (atoms,) | atomic numbers; 0 for what is no element |
| positions | (atoms, 3) | Angstrom, centre of geometry of each molecule at the origin |
| bond_offsets | (molecules + 1,) | where the bonds of each molecule begin and end |
| bonds | (bonds, 3) | two atoms, counted within the molecule, and 1 single, 2 double, 3 triple, 4 aromatic |
| bonds_known | (molecules,) | whether its bonds are those of the molecule, or are unknown |
| properties | (molecules,) each | numbers by name, in the unit of the file; NaN where unknown |
| places | (molecules, 2) | which of `files` a molecule comes from, and its number there, counted from 0 |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from atomsml.dataset.columns import atomic_numbers, atoms_of
from atomsml.dataset.content import geometry_hashes
from atomsml.generative.core.set import SampleSet
from atomsml.generative.molecules.molecules import Molecules


@dataclass(frozen=True)
class MoleculeSet(SampleSet[Molecules]):
    """Open systems, some of them with bonds and properties; `warnings` says what is odd about them."""

    offsets: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    bond_offsets: np.ndarray
    bonds: np.ndarray
    bonds_known: np.ndarray
    places: np.ndarray
    files: tuple[str, ...]
    properties: dict[str, np.ndarray] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @staticmethod
    def from_rows(
        numbers: Sequence[np.ndarray],
        positions: Sequence[np.ndarray],
        bonds: Sequence[np.ndarray | None],
        properties: Mapping[str, np.ndarray],
        warnings: Sequence[str] = (),
        file: str = "in memory",
    ) -> MoleculeSet:
        """From one array for each molecule of a file; bonds are (bonds, 3), None where they are unknown."""
        rows = [np.zeros((0, 3), np.int16) if row is None else row.reshape(-1, 3).astype(np.int16) for row in bonds]
        offsets = _offsets(numbers)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite stays so
            places = _centred(offsets, np.concatenate([np.zeros((0, 3)), *positions])).astype(np.float32)
        return MoleculeSet(
            offsets=offsets,
            numbers=atomic_numbers(np.concatenate([np.zeros(0), *numbers])),
            positions=places,
            bond_offsets=_offsets(rows),
            bonds=np.concatenate([np.zeros((0, 3), np.int16), *rows]),
            bonds_known=np.array([row is not None for row in bonds], bool),
            places=np.stack([np.zeros(len(numbers), np.int64), np.arange(len(numbers))], axis=1),
            files=(file,),
            properties=dict(properties),
            warnings=tuple(warnings),
        )

    @staticmethod
    def concatenate(parts: Sequence[MoleculeSet]) -> MoleculeSet:
        """One set after the other; a property that a part lacks is NaN there."""
        names = sorted({name for part in parts for name in part.properties})
        first_file = np.cumsum([0, *(len(part.files) for part in parts)])
        return MoleculeSet(
            offsets=_joined([part.offsets for part in parts]),
            numbers=np.concatenate([part.numbers for part in parts]),
            positions=np.concatenate([part.positions for part in parts]),
            bond_offsets=_joined([part.bond_offsets for part in parts]),
            bonds=np.concatenate([part.bonds for part in parts]),
            bonds_known=np.concatenate([part.bonds_known for part in parts]),
            places=np.concatenate(
                [part.places + np.array([i, 0]) for part, i in zip(parts, first_file[:-1], strict=True)]
            ),
            files=tuple(file for part in parts for file in part.files),
            properties={
                name: np.concatenate([part.properties.get(name, np.full(len(part), np.nan)) for part in parts])
                for name in names
            },
            warnings=tuple(warning for part in parts for warning in part.warnings),
        )

    @property
    def sizes(self) -> np.ndarray:
        """(molecules,) number of atoms."""
        return np.diff(self.offsets)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers, ascending."""
        return tuple(np.unique(self.numbers).tolist())

    def where(self, index: int) -> str:
        """The file of a molecule, and its number there."""
        file, number = self.places[index].tolist()
        return f"{self.files[file]}: molecule {number} (counted from 0)"

    def hashes(self) -> np.ndarray:
        """(molecules,) uint64 of each geometry, to 1e-4 A."""
        cells = np.zeros((len(self), 3, 3))
        periodic = np.zeros((len(self), 3), bool)
        return geometry_hashes(self.offsets, self.numbers, self.positions.astype(np.float64), cells, periodic)

    def describe(self) -> str:
        return (
            f"{len(self):,} molecules of {self.sizes.min()} to {self.sizes.max()} atoms, "
            f"{int(self.bonds_known.sum()):,} with bonds; properties: {', '.join(self.properties) or 'none'}"
        )

    def rows(self) -> list[list[int]]:
        """Atomic numbers of every molecule."""
        return [part.tolist() for part in np.split(self.numbers, self.offsets[1:-1])]

    def subset(self, rows: np.ndarray) -> MoleculeSet:
        """Copies of the molecules `rows`, in that order; without the warnings."""
        atoms, bonds = atoms_of(self.offsets, rows), atoms_of(self.bond_offsets, rows)
        return MoleculeSet(
            offsets=_from_lengths(self.sizes[rows]),
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            bond_offsets=_from_lengths(np.diff(self.bond_offsets)[rows]),
            bonds=self.bonds[bonds],
            bonds_known=self.bonds_known[rows],
            places=self.places[rows],
            files=self.files,
            properties={name: values[rows] for name, values in self.properties.items()},
        )

    def batch(self, rows: np.ndarray, conditions: Sequence[str] = ()) -> Molecules:
        """The molecules `rows`, padded to the largest; without bonds where those of none of them are known.

        Raises:
            KeyError: a condition that is no property of the set.
        """
        part = self.subset(rows)
        samples, nodes = len(part), int(part.sizes.max(initial=0))
        sample, place = _padded_places(part.offsets)
        numbers = np.zeros((samples, nodes), np.int64)
        positions = np.zeros((samples, nodes, 3), np.float32)
        numbers[sample, place], positions[sample, place] = part.numbers, part.positions
        return Molecules(
            numbers=torch.from_numpy(numbers),
            positions=torch.from_numpy(positions),
            bonds=torch.from_numpy(_dense_bonds(part, nodes)) if part.bonds_known.any() else None,
            conditions={name: torch.from_numpy(part.properties[name].astype(np.float32)) for name in conditions},
        )


def _dense_bonds(molecules: MoleculeSet, nodes: int) -> np.ndarray:
    """(molecules, nodes, nodes) int64, symmetric; -1 where unknown."""
    dense = np.zeros((len(molecules), nodes, nodes), np.int64)
    sample, _ = _padded_places(molecules.bond_offsets)
    i, j, order = molecules.bonds.T
    dense[sample, i, j] = dense[sample, j, i] = order
    dense[~molecules.bonds_known] = -1
    return dense


def _padded_places(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every entry of ragged rows, its row and its place in it."""
    lengths = np.diff(offsets)
    return np.repeat(np.arange(len(lengths)), lengths), np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)


def _centred(offsets: np.ndarray, positions: np.ndarray) -> np.ndarray:
    sizes = np.diff(offsets)
    sample = np.repeat(np.arange(len(sizes)), sizes)
    sums = np.stack([np.bincount(sample, positions[:, axis], len(sizes)) for axis in range(3)], axis=1)
    return positions - (sums / np.maximum(sizes, 1)[:, None])[sample]


def _offsets(rows: Sequence[np.ndarray]) -> np.ndarray:
    return _from_lengths(np.array([len(row) for row in rows], np.int64))


def _from_lengths(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(offsets: Sequence[np.ndarray]) -> np.ndarray:
    return _from_lengths(np.concatenate([np.diff(each) for each in offsets]))
