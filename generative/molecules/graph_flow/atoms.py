"""The atoms of graphs, hydrogens included, before they have places; and molecules of which these may be learnt."""

from __future__ import annotations

import numpy as np
import torch

from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.molecules.flow.united_atoms import MOST_HYDROGENS
from atomsml.generative.molecules.molecules import Molecules, padded
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.io import bonds_of_mol


def molecules_of_graphs(graphs: MolecularGraphs) -> Molecules:
    """Molecules with bonds and formal charges, all at the origin: heavy atoms in order, then the hydrogens of each.

    Bonds are aromatic where RDKit finds them so.
    """
    from rdkit import Chem

    mols = [Chem.AddHs(mol) for mol in graphs.to_mols()]
    numbers = padded([[atom.GetAtomicNum() for atom in mol.GetAtoms()] for mol in mols])
    charges = padded([[atom.GetFormalCharge() for atom in mol.GetAtoms()] for mol in mols])
    bonds = np.zeros((*numbers.shape, numbers.shape[1]), np.int64)
    for row, mol in enumerate(mols):
        i, j, order = bonds_of_mol(mol).T
        bonds[row, i, j] = bonds[row, j, i] = order
    return Molecules(numbers, torch.zeros(*numbers.shape, 3), torch.from_numpy(bonds), {}, charges)


def unsuited(molecules: MoleculeSet) -> str:
    """Which molecule no graph flow can learn from, and why; "" if it can from all."""
    if not molecules.bonds_known.all():
        where = molecules.where(int(molecules.bonds_known.argmin()))
        return f"{where}: its bonds are not known, and a graph-flow is told them all; an SDF file has them"
    sample = np.repeat(np.arange(len(molecules)), np.diff(molecules.bond_offsets))
    ends = molecules.bonds[:, :2] + molecules.offsets[sample][:, None]
    hydrogen = molecules.numbers == 1
    mixed = ends[hydrogen[ends].sum(axis=1) == 1]  # bonds of one hydrogen and one heavy atom
    counts = np.bincount(mixed.ravel(), minlength=len(hydrogen))
    for wrong, what in (
        (hydrogen & (counts != 1), "has a hydrogen that is not bonded to one heavy atom"),
        (~hydrogen & (counts > MOST_HYDROGENS), f"has more than {MOST_HYDROGENS} hydrogens about one atom"),
    ):
        if wrong.any():
            row = int(np.searchsorted(molecules.offsets, wrong.argmax(), side="right")) - 1
            return f"{molecules.where(row)}: {what}; leave it out"
    return ""
