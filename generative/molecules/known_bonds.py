"""Bonds that were decided before the positions: read from a molecule, and compared with those that are perceived.

Where the same pairs of atoms are bonded, hydrogens included, valences leave the orders no choice but that between
resonance structures. So pairs are compared, not orders.
"""

from __future__ import annotations

import ase
import numpy as np
from ase.data import chemical_symbols

from atomsml.generative.molecules.metrics.perception import Perceived, perceived_mol


def known_bonds(atoms: ase.Atoms) -> Perceived | None:
    """What the bonds in `atoms.info["bonds"]` say of a molecule, in the form of what is perceived; None without them.

    Raises:
        ValueError: bonds and formal charges that RDKit refuses.
    """
    from rdkit import Chem

    if "bonds" not in atoms.info:
        return None
    charges = np.rint(atoms.get_initial_charges()).astype(np.int64)
    found = Perceived(bonds=np.asarray(atoms.info["bonds"], np.int64), charges=charges)
    mol = perceived_mol(atoms, found)
    smiles = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
    return Perceived("", len(Chem.GetMolFrags(mol)), found.bonds, charges, smiles)


def disagreement(atoms: ase.Atoms, known: Perceived, perceived: Perceived) -> str:
    """Where the perceived bonds are not the known ones; "" if they are the same, up to resonance."""
    if perceived.reason:
        return perceived.reason
    asked, found = _pairs(known), _pairs(perceived)
    lacking, formed = sorted(asked - found), sorted(found - asked)
    for pairs, what in ((lacking, "is not there"), (formed, "is not in its graph")):
        if pairs:
            ends = "-".join(f"{chemical_symbols[atoms.numbers[i]]}{i}" for i in pairs[0])
            return f"the bond {ends} {what}"
    return ""


def _pairs(found: Perceived) -> set[tuple[int, int]]:
    return {(min(i, j), max(i, j)) for i, j, _ in found.bonds.tolist()}
