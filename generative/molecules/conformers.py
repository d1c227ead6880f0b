"""Molecules whose bonds a SMILES string gives, and of which only the places of the atoms are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import ase

from atomsml.generative.molecules.graph_flow.stereo import right_handed, specifies_stereo
from atomsml.generative.molecules.model import MoleculeModel, check_known
from atomsml.generative.molecules.molecules import Request
from atomsml.io import parse_smiles


def smiles_requests(model: MoleculeModel, smiles: Sequence[str], seeds: Sequence[int]) -> list[Request]:
    """A request for each SMILES and its seed.

    Raises:
        ValueError: a model that draws bonds itself, or a molecule that it cannot place.
    """
    if not model.takes_smiles:
        raise ValueError("the model draws the bonds of its molecules itself; give --smiles to a graph-flow")
    numbers = {text: _numbers(model, text) for text in dict.fromkeys(smiles)}
    return [
        Request(seed, len(numbers[text]), numbers[text], smiles=text) for seed, text in zip(seeds, smiles, strict=True)
    ]


def _numbers(model: MoleculeModel, smiles: str) -> tuple[int, ...]:
    """Atomic numbers in the order of `parse_smiles`.

    Raises:
        ValueError: a charged molecule or one with isotopes, or elements that the model does not know.
    """
    from rdkit import Chem

    mol = parse_smiles(smiles)
    numbers = tuple(atom.GetAtomicNum() for atom in mol.GetAtoms())
    charge = Chem.GetFormalCharge(mol)
    if charge:
        raise ValueError(f"SMILES {smiles!r} has the charge {charge:+d}, and generators draw neutral molecules")
    if any(atom.GetIsotope() for atom in mol.GetAtoms()):
        raise ValueError(f"SMILES {smiles!r} has isotopes, which generators do not tell apart; leave them out")
    if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        raise ValueError(f"SMILES {smiles!r} has unpaired electrons; give a molecule without")
    if set(numbers) == {1}:
        raise ValueError(f"SMILES {smiles!r} has no heavy atom, about which hydrogens are placed; give one")
    check_known(model, numbers)
    return numbers


def with_stereo(atoms: ase.Atoms, smiles: str) -> ase.Atoms | None:
    """A molecule, or its mirror image, with the stereochemistry of a SMILES; None if neither has it."""
    asked = parse_smiles(smiles)
    if not specifies_stereo(asked):
        return atoms
    positions = right_handed(asked, atoms.positions)
    if positions is None:
        return None
    turned = atoms.copy()
    turned.positions = positions
    return turned
