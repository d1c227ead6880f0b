"""Stereochemistry: whether a molecule in space has what a SMILES string says, or would have it in the mirror.

Networks that are blind to reflections draw both mirror images equally often. A molecule is compared with what is asked
for as RDKit sees it; centres and double bonds that are not specified are free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rdkit.Chem import Mol


def specifies_stereo(mol: Mol) -> bool:
    """Whether a centre or a double bond is specified."""
    from rdkit import Chem

    centres = any(atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED for atom in mol.GetAtoms())
    return centres or any(bond.GetStereo() > Chem.BondStereo.STEREOANY for bond in mol.GetBonds())


def right_handed(asked: Mol, positions: np.ndarray) -> np.ndarray | None:
    """`positions`, or their mirror image, whichever has the stereochemistry that is asked for; None if neither has.

    Args:
        asked: with explicit hydrogens, whose atoms are those of the positions.
    """
    for candidate in (positions, positions * np.array([-1.0, 1.0, 1.0])):
        if _smiles_in_space(asked, candidate) == _smiles(asked):
            return candidate
    return None


def _smiles_in_space(asked: Mol, positions: np.ndarray) -> str:
    """Canonical SMILES with the stereochemistry of the positions, as far as some is asked for."""
    from rdkit import Chem

    mol, conformer = Chem.Mol(asked), Chem.Conformer(asked.GetNumAtoms())
    for i, place in enumerate(positions.tolist()):
        conformer.SetAtomPosition(i, place)
    conformer.Set3D(True)
    mol.RemoveAllConformers()
    mol.AddConformer(conformer)
    Chem.AssignStereochemistryFrom3D(mol, replaceExistingTags=True)
    for atom, wanted in zip(mol.GetAtoms(), asked.GetAtoms(), strict=True):
        if wanted.GetChiralTag() == Chem.ChiralType.CHI_UNSPECIFIED:
            atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    for bond, wanted_bond in zip(mol.GetBonds(), asked.GetBonds(), strict=True):
        if wanted_bond.GetStereo() <= Chem.BondStereo.STEREOANY:
            bond.SetStereo(Chem.BondStereo.STEREONONE)
    return _smiles(mol)


def _smiles(mol: Mol) -> str:
    from rdkit import Chem

    text: str = Chem.MolToSmiles(Chem.RemoveHs(mol))
    return text
