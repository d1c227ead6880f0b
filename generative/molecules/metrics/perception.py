"""Bonds of molecules from their positions, each within a time limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ase
import numpy as np

from atomsml.io import bonds_of_mol, mol_bonded, mol_from_positions, with_bond_orders

if TYPE_CHECKING:
    from rdkit.Chem import Mol

TIME_LIMIT = 10.0  # s for one molecule; those that make sense take milliseconds
MAX_ATOMS = 1000


@dataclass(frozen=True)
class Perceived:
    """What a neutral molecule is made of."""

    reason: str = ""  # why there is nothing below; "" if there is
    fragments: int = 0  # pieces by distances; 0 where unknown
    bonds: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    # (bonds, 3) two atoms, and 1 single, 2 double, 3 triple or 4 aromatic
    charges: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (atoms,) formal charges
    smiles: str = ""  # canonical, without hydrogens and without stereochemistry


def perceive(molecules: Iterable[ase.Atoms], time_limit: float = TIME_LIMIT) -> Iterator[Perceived]:
    """Bond orders, formal charges and SMILES of each molecule in turn, whatever bonds its file may have had.

    Connectivity comes from distances (`mol_bonded`), bond orders and formal charges from an integer program with total
    charge 0 (`atomsml.io.bond_orders`), aromaticity from RDKit.
    """
    for atoms in molecules:
        yield _perceive(atoms, time_limit)


def _perceive(atoms: ase.Atoms, time_limit: float) -> Perceived:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    if len(atoms) == 0:
        return Perceived("no atoms")
    if len(atoms) > MAX_ATOMS:
        return Perceived(f"more than {MAX_ATOMS} atoms")
    if not np.isfinite(atoms.positions).all():
        return Perceived("a position that is not finite")
    joined = mol_bonded(atoms)
    fragments = len(Chem.GetMolFrags(joined))
    with BlockLogs():
        try:
            mol = with_bond_orders(joined, 0, time_limit)
        except (ValueError, TimeoutError) as error:
            return Perceived(f"no bond orders of a neutral molecule: {error}", fragments)
        smiles = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
    charges = np.array([atom.GetFormalCharge() for atom in mol.GetAtoms()], np.int64)
    return Perceived("", fragments, bonds_of_mol(mol), charges, smiles)


def perceived_mol(atoms: ase.Atoms, found: Perceived) -> Mol:
    """The molecule with the bonds and formal charges that were perceived, sanitised, at its positions.

    Raises:
        ValueError: none were.
    """
    from rdkit import Chem

    if found.reason:
        raise ValueError(f"this molecule has no bonds: {found.reason}")
    bonds, charges = found.bonds.tolist(), found.charges.tolist()
    mol = mol_from_positions(atoms.numbers.tolist(), atoms.positions.tolist(), bonds, charges)
    Chem.SanitizeMol(mol)
    return mol.GetMol()
