"""MolecularGraphs: a padded batch of molecules without geometry: heavy atoms, and the bonds among them.

| field | shape | meaning |
|---|---|---|
| numbers | (samples, nodes) | atomic numbers of the heavy atoms, int64; 0 is padding |
| charges | (samples, nodes) | formal charges |
| hydrogens | (samples, nodes) | how many hydrogens each atom carries |
| bonds | (samples, nodes, nodes) | symmetric: 0 none, 1 single, 2 double, 3 triple, as in a Kekule structure |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from atomsml.io.molecules import bond_types

if TYPE_CHECKING:
    from rdkit.Chem import Mol, RWMol

HIGHEST_ORDER = 3


@dataclass(frozen=True)
class MolecularGraphs:
    """A batch of graphs of different sizes; the atoms of each come first, its padding last."""

    numbers: Tensor
    charges: Tensor
    hydrogens: Tensor
    bonds: Tensor

    @property
    def mask(self) -> Tensor:
        """(samples, nodes) bool: atoms, not padding."""
        return self.numbers > 0

    @property
    def sizes(self) -> Tensor:
        """(samples,) number of heavy atoms."""
        return self.mask.sum(dim=1)

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device | str | torch.dtype) -> MolecularGraphs:
        """The same batch on another device, or in other integers."""
        return MolecularGraphs(
            self.numbers.to(device), self.charges.to(device), self.hydrogens.to(device), self.bonds.to(device)
        )

    def select(self, rows: Tensor | Sequence[int]) -> MolecularGraphs:
        """Some of the samples, with no more padding than they need."""
        rows = torch.as_tensor(rows, dtype=torch.int64, device=self.numbers.device)
        nodes = int(self.sizes[rows].max()) if len(rows) else 0
        return MolecularGraphs(
            self.numbers[rows, :nodes],
            self.charges[rows, :nodes],
            self.hydrogens[rows, :nodes],
            self.bonds[rows, :nodes, :nodes],
        )

    @staticmethod
    def concatenate(parts: Sequence[MolecularGraphs]) -> MolecularGraphs:
        """One batch of several, padded to the largest graph."""
        nodes = max((part.numbers.shape[1] for part in parts), default=0)

        def joined(tensors: Sequence[Tensor]) -> Tensor:
            return torch.cat([pad(x, (0, nodes - x.shape[1]) * (x.dim() - 1)) for x in tensors])

        return MolecularGraphs(
            joined([part.numbers for part in parts]),
            joined([part.charges for part in parts]),
            joined([part.hydrogens for part in parts]),
            joined([part.bonds for part in parts]),
        )

    @staticmethod
    def from_mols(mols: Sequence[Mol]) -> MolecularGraphs:
        """Of molecules of RDKit, whose explicit hydrogens are counted where they are bonded.

        Raises:
            ValueError: a molecule without heavy atoms, with an atom that is no element, an unpaired electron or a bond
                of another kind; says which, counted from 0.
        """
        rows = []
        for index, mol in enumerate(mols):
            try:
                rows.append(graph_of(mol))
            except ValueError as error:
                raise ValueError(f"molecule {index} (counted from 0): {error}") from None
        return MolecularGraphs.from_rows(rows)

    @staticmethod
    def from_rows(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> MolecularGraphs:
        """Of the arrays of each graph, as `graph_of` gives them."""
        nodes = max((len(atoms) for atoms, _ in rows), default=0)
        atoms = np.zeros((3, len(rows), nodes), np.int64)
        bonds = np.zeros((len(rows), nodes, nodes), np.int64)
        for row, (of_atoms, of_pairs) in enumerate(rows):
            size = len(of_atoms)
            atoms[:, row, :size], bonds[row, :size, :size] = of_atoms.T, of_pairs
        numbers, charges, hydrogens = torch.from_numpy(atoms)
        return MolecularGraphs(numbers, charges, hydrogens, torch.from_numpy(bonds))

    def to_mols(self) -> list[Mol]:
        """Sanitised molecules of RDKit, aromatic where it finds them so; hydrogens are counted, not atoms."""
        numbers, charges, hydrogens, bonds = (
            values.cpu().numpy() for values in (self.numbers, self.charges, self.hydrogens, self.bonds)
        )
        return [
            _mol(numbers[row, :size], charges[row, :size], hydrogens[row, :size], bonds[row, :size, :size])
            for row, size in enumerate(self.sizes.tolist())
        ]


def graph_of(mol: Mol) -> tuple[np.ndarray, np.ndarray]:
    """(atoms, 3) element, charge and hydrogens of the heavy atoms, and (atoms, atoms) orders of their bonds.

    Raises:
        ValueError: as `MolecularGraphs.from_mols`, of one molecule.
    """
    from rdkit import Chem

    kekule = Chem.RWMol(mol)
    Chem.Kekulize(kekule, clearAromaticFlags=True)
    heavy = [atom for atom in kekule.GetAtoms() if atom.GetAtomicNum() != 1]
    if not heavy:
        raise ValueError("has no heavy atoms")
    place = {atom.GetIdx(): i for i, atom in enumerate(heavy)}
    for atom in heavy:
        if atom.GetAtomicNum() == 0:
            raise ValueError("has an atom that is no element")
        if atom.GetNumRadicalElectrons():
            raise ValueError(f"its {atom.GetSymbol()} has an unpaired electron")
    bonds = np.zeros((len(heavy), len(heavy)), np.int64)
    for bond in kekule.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if not all(end in place for end in ends):
            continue
        kind = bond.GetBondType()
        if kind not in bond_types()[:HIGHEST_ORDER]:
            raise ValueError(f"has a bond of the kind {kind.name.lower()}")
        i, j = (place[end] for end in ends)
        bonds[i, j] = bonds[j, i] = bond_types().index(kind) + 1
    atoms = [[a.GetAtomicNum(), a.GetFormalCharge(), a.GetTotalNumHs(includeNeighbors=True)] for a in heavy]
    return np.array(atoms, np.int64), bonds


def _mol(numbers: np.ndarray, charges: np.ndarray, hydrogens: np.ndarray, bonds: np.ndarray) -> Mol:
    from rdkit import Chem

    mol: RWMol = Chem.RWMol()
    for number, charge, carried in zip(numbers.tolist(), charges.tolist(), hydrogens.tolist(), strict=True):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(carried)
        mol.AddAtom(atom)
    for i, j in zip(*np.nonzero(np.triu(bonds)), strict=True):
        mol.AddBond(int(i), int(j), bond_types()[bonds[i, j] - 1])
    Chem.SanitizeMol(mol)
    return mol.GetMol()
