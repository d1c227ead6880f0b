"""Geometries from which conformers are relaxed: ETKDGv3 of RDKit, from random distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Array = NDArray[np.float64]

ATTEMPTS = 30  # of RDKit for each geometry; its own limit, ten per atom, lets a hopeless molecule take minutes
SEEDS = ((7, 50), (12, 200))  # up to so many rotatable bonds so many geometries
MOST_SEEDS = 300  # for more


def seeds_for(mol: Mol) -> int:
    """How many geometries find the shape in a crystal within 1 A or so (Ebejer et al., JCIM 52, 1146 (2012))."""
    from rdkit.Chem.rdMolDescriptors import CalcNumRotatableBonds

    bonds = CalcNumRotatableBonds(mol)
    return next((count for most, count in SEEDS if bonds <= most), MOST_SEEDS)


def embedded(mol: Mol, count: int, seed: int) -> list[Array]:
    """At most `count` geometries (atoms, 3), A; some attempts may fail.

    The stereo centres are those of the Mol. Where ETKDG's idea of rings and torsions is too strict for all of them,
    plain distance geometry stands in.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom
    from rdkit.rdBase import BlockLogs

    # RDKit multiplies it by the number of each geometry: 0 would make all alike, and 2 every second one of 1
    multiplied = int(np.random.default_rng(seed).integers(1, 2**20))
    plain: Any = rdDistGeom.EmbedParameters()
    plain.useRandomCoords = True
    etkdg: Any = rdDistGeom.ETKDGv3()
    for settings in (etkdg, plain):
        settings.randomSeed, settings.maxIterations, settings.numThreads = multiplied, ATTEMPTS, 1
        copy = Chem.Mol(mol)
        with BlockLogs():
            numbers = list(rdDistGeom.EmbedMultipleConfs(copy, count, settings))
        if numbers:
            return [copy.GetConformer(number).GetPositions() for number in numbers]
    return []


def torsions(mol: Mol) -> list[tuple[int, int, int, int]]:
    """Four atoms about each bond that turns a heavy atom or the hydrogen of one that is no carbon, out of rings."""
    from rdkit import Chem

    found = []
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtom(), bond.GetEndAtom()
        if bond.IsInRing() or bond.GetBondType() != Chem.BondType.SINGLE:
            continue
        others = [
            [each for each in ends[i].GetNeighbors() if each.GetIdx() != ends[1 - i].GetIdx() and matters(each)]
            for i in (0, 1)
        ]
        linear = any(end.GetHybridization() == Chem.HybridizationType.SP for end in ends)
        if all(others) and not linear:
            first, last = (max(some, key=lambda each: (each.GetAtomicNum(), -each.GetIdx())) for some in others)
            found.append((first.GetIdx(), ends[0].GetIdx(), ends[1].GetIdx(), last.GetIdx()))
    return found


def matters(atom: Any) -> bool:
    """Whether an atom makes a conformer: all but hydrogens of carbons, which turn and lie like those beside them."""
    return atom.GetAtomicNum() != 1 or any(each.GetAtomicNum() not in (1, 6) for each in atom.GetNeighbors())


def isomer(mol: Mol, atoms: ase.Atoms) -> str:
    """SMILES with the stereochemistry that the positions have."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    copy, conformer = Chem.Mol(mol), Chem.Conformer(len(atoms))
    for i, position in enumerate(atoms.positions.tolist()):
        conformer.SetAtomPosition(i, position)
    conformer.Set3D(True)
    copy.RemoveAllConformers()
    copy.AddConformer(conformer)
    with BlockLogs():
        Chem.AssignStereochemistryFrom3D(copy, replaceExistingTags=True)
        return str(Chem.MolToSmiles(Chem.RemoveHs(copy)))
