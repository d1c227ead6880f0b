"""RDKit and AtomicGraph: molecules with bonds from graphs, graphs from molecules, geometries from SMILES.

A SMILES string says how atoms are connected, not where they are. ETKDGv3 (Wang, Witek, Landrum, Riniker, J. Chem.
Inf. Model. 60, 2044 (2020)) embeds it in space and MMFF94 (Halgren, J. Comput. Chem. 17, 490 (1996)) relaxes it. Where
ETKDG's idea of rings is too strict, plain distance geometry stands in; where MMFF94 lacks parameters, UFF (Rappe et
al., J. Am. Chem. Soc. 114, 10024 (1992)); and where both lack them the embedded geometry is kept. The way back,
from positions to bonds, is in `bonds`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
import torch

from atomsml.graph import AtomicGraph

if TYPE_CHECKING:
    from rdkit.Chem import BondType, Mol, RWMol

AROMATIC = 4  # what a bond of order 4 is
EMBEDDING_ATTEMPTS = 30  # RDKit's own limit, ten per atom, lets a hopeless molecule take minutes
MAX_FORCE_FIELD_STEPS = 2000
LARGE = 250  # atoms: what is larger takes more than ten seconds


def graph_from_rdkit(mol: Mol, dtype: torch.dtype = torch.float64) -> AtomicGraph:
    """Graph of the first conformer of a Mol with explicit hydrogens.

    Formal charges become atom_data["initial_charges"] and their sum system_data["charge"], in e. Where it has unpaired
    electrons, system_data["spin"] is the multiplicity 2S + 1 with parallel spins. Bonds are dropped.

    Raises:
        ValueError: no three-dimensional conformer, implicit hydrogens, or a wildcard atom.
    """
    if mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
        raise ValueError(
            "the RDKit Mol has no three-dimensional conformer; embed it with rdDistGeom.EmbedMolecule, "
            "or use AtomicGraph.from_smiles"
        )
    # a Mol that was never sanitised, as one from an XYZ file, knows of no implicit hydrogens
    if not mol.NeedsUpdatePropertyCache() and any(atom.GetTotalNumHs() for atom in mol.GetAtoms()):
        raise ValueError("the RDKit Mol has implicit hydrogens; call Chem.AddHs(mol, addCoords=True) first")
    atoms = list(mol.GetAtoms())
    numbers = [atom.GetAtomicNum() for atom in atoms]
    if 0 in numbers:
        raise ValueError(f"atom {numbers.index(0)} of the RDKit Mol is a wildcard; replace it by an element")
    charges = [atom.GetFormalCharge() for atom in atoms]
    system_data = {"charge": torch.tensor([sum(charges)], dtype=dtype)}
    unpaired = sum(atom.GetNumRadicalElectrons() for atom in atoms)
    if unpaired:
        system_data["spin"] = torch.tensor([unpaired + 1])
    return AtomicGraph(
        positions=torch.tensor(mol.GetConformer().GetPositions(), dtype=dtype),
        numbers=torch.tensor(numbers, dtype=torch.int64),
        cell=torch.zeros(1, 3, 3, dtype=dtype),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        batch=torch.zeros(len(numbers), dtype=torch.int64),
        atom_data={"initial_charges": torch.tensor(charges, dtype=dtype)},
        system_data=system_data,
    )


def atoms_from_mol(mol: Mol) -> ase.Atoms:
    """ASE Atoms of the first conformer of a Mol with explicit hydrogens.

    Formal charges become initial charges, the masses of isotopes masses. `info` has the total charge (int, e) as
    "charge", the bonds as "bonds" in the form of `bonds_of_mol`, and where electrons are unpaired the multiplicity
    2S + 1 of their parallel spins as "spin".
    """
    atoms = list(mol.GetAtoms())
    charges = [atom.GetFormalCharge() for atom in atoms]
    positions = mol.GetConformer().GetPositions() if atoms else None
    image = ase.Atoms([atom.GetAtomicNum() for atom in atoms], positions, charges=charges)
    if any(atom.GetIsotope() for atom in atoms):
        image.set_masses(
            [a.GetMass() if a.GetIsotope() else mass for a, mass in zip(atoms, image.get_masses(), strict=True)]
        )
    image.info["charge"] = sum(charges)
    unpaired = sum(atom.GetNumRadicalElectrons() for atom in atoms)
    if unpaired:
        image.info["spin"] = unpaired + 1
    image.info["bonds"] = bonds_of_mol(mol)
    return image


def atoms_from_smiles(smiles: str, seed: int = 0) -> ase.Atoms:
    """ASE Atoms of a SMILES string, embedded and relaxed as by `mol_from_smiles`, with its errors.

    Where the string leaves stereochemistry open, `info` has as "undefined_stereo" the atoms, or bonds, that it is of.
    """
    mol = mol_from_smiles(smiles, seed)
    atoms = atoms_from_mol(mol)
    if undefined := _undefined_stereo(mol):
        atoms.info["undefined_stereo"] = undefined
    return atoms


def _undefined_stereo(mol: Mol) -> str:
    """Such as "atoms 1 3, bond 4"; empty where everything is said."""
    from rdkit import Chem

    open_ones = [each for each in Chem.FindPotentialStereo(mol) if each.specified == Chem.StereoSpecified.Unspecified]
    atoms = [each.centeredOn for each in open_ones if each.type == Chem.StereoType.Atom_Tetrahedral]
    bonds = [mol.GetBondWithIdx(each.centeredOn) for each in open_ones if each.type == Chem.StereoType.Bond_Double]
    words = [f"atoms {' '.join(map(str, atoms))}"] if atoms else []
    words += [f"the bond {bond.GetBeginAtomIdx()}-{bond.GetEndAtomIdx()}" for bond in bonds]
    return ", ".join(words)


def geometry_fault(mol: Mol) -> str | None:
    """Why a Mol of a file, not sanitised, is no molecule in space: flat, or without all hydrogens; None if it is."""
    if mol.GetNumAtoms() == 0:
        return "has no atoms; remove it"
    if mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
        return "has no geometry in three dimensions; embed it first"
    mol.UpdatePropertyCache(strict=False)
    if any(atom.GetTotalNumHs() for atom in mol.GetAtoms()):
        return "lacks hydrogens; add all of them, with positions"
    return None


def parse_smiles(smiles: str) -> Mol:
    """Mol with explicit hydrogens, not yet embedded, of a SMILES string that names one molecule.

        >>> from atomsml.io import parse_smiles
        >>> parse_smiles("CCO").GetNumAtoms()
        9

    Several fragments ("CCO.O") are refused: a SMILES does not say how they lie, and RDKit puts them into one another.

    Raises:
        ValueError: wrong syntax or valences, no atoms, a wildcard atom, or several fragments.
    """
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        mol = Chem.MolFromSmiles(smiles, sanitize=False)
        if mol is None:
            raise ValueError(f"SMILES {smiles!r} cannot be parsed; check its brackets, ring closures and elements")
        problems = Chem.DetectChemistryProblems(mol)
        if problems:
            raise ValueError(f"SMILES {smiles!r} is chemically wrong: {problems[0].Message()}; correct its valences")
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if mol.GetNumAtoms() == 0:
        raise ValueError(f"SMILES {smiles!r} has no atoms; give a molecule, such as CCO")
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        raise ValueError(f"SMILES {smiles!r} has a wildcard atom (*); replace it by an element")
    fragments = len(Chem.GetMolFrags(mol))
    if fragments > 1:
        raise ValueError(
            f"SMILES {smiles!r} has {fragments} fragments and does not say how they lie; "
            "give each alone, or a file with the geometry"
        )
    return mol


def mol_from_smiles(smiles: str, seed: int = 0) -> Mol:
    """Mol with explicit hydrogens and one relaxed conformer; the same seed gives the same conformer.

    Raises:
        ValueError: what `parse_smiles` refuses, a seed that RDKit cannot take, or a molecule that cannot be embedded.
    """
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    from rdkit.rdBase import BlockLogs

    if not 0 <= seed < 2**31:
        raise ValueError(f"the seed of a SMILES embedding must lie in 0 ... 2^31 - 1, got {seed}")
    mol = parse_smiles(smiles)
    if mol.GetNumAtoms() > LARGE:
        short = f"{smiles[:20]}..." if len(smiles) > 20 else smiles
        warnings.warn(
            f"to place the {mol.GetNumAtoms()} atoms of SMILES {short} may take minutes; "
            "a file with the geometry is faster",
            stacklevel=2,
        )
    with BlockLogs():
        if not (_embed(mol, rdDistGeom.ETKDGv3(), seed) or _embed(mol, _plain_distance_geometry(), seed)):
            raise ValueError(
                f"SMILES {smiles!r} cannot be embedded in three dimensions; check its stereochemistry and ring strain, "
                "or give a file with the geometry"
            )
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=MAX_FORCE_FIELD_STEPS)
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=MAX_FORCE_FIELD_STEPS)
    return mol


def _embed(mol: Mol, parameters: Any, seed: int) -> bool:  # RDKit's stubs mistype EmbedParameters
    from rdkit.Chem import rdDistGeom

    parameters.randomSeed = seed
    parameters.maxIterations = EMBEDDING_ATTEMPTS
    return rdDistGeom.EmbedMolecule(mol, parameters) >= 0


def _plain_distance_geometry() -> Any:
    """Without ETKDG's terms for flat rings and usual torsions, which rule out helicenes, fullerenes and cyclophanes."""
    from rdkit.Chem import rdDistGeom

    parameters: Any = rdDistGeom.EmbedParameters()
    parameters.useRandomCoords = True
    return parameters


def graph_from_smiles(smiles: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> AtomicGraph:
    """Graph of the embedded and relaxed conformer of `mol_from_smiles`, with its errors."""
    return graph_from_rdkit(mol_from_smiles(smiles, seed), dtype)


def mol_from_positions(
    numbers: Sequence[int],
    positions: Sequence[Sequence[float]],
    bonds: Iterable[Sequence[int]] = (),
    charges: Sequence[int] | None = None,
) -> RWMol:
    """Mol of atoms where they are, with just these bonds and no other hydrogens; not sanitised.

    Args:
        bonds: two atoms, and 1 single, 2 double, 3 triple, 4 aromatic, of each.
        charges: formal charge of each atom; without them all are neutral.
    """
    from rdkit import Chem

    mol, conformer = Chem.RWMol(), Chem.Conformer(len(numbers))
    for i, (number, position) in enumerate(zip(numbers, positions, strict=True)):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        atom.SetFormalCharge(0 if charges is None else charges[i])
        mol.AddAtom(atom)
        conformer.SetAtomPosition(i, position)
    conformer.Set3D(True)
    mol.AddConformer(conformer)
    for first, second, order in bonds:
        mol.AddBond(first, second, bond_types()[order - 1])
        for end in (first, second) if order == AROMATIC else ():
            mol.GetAtomWithIdx(end).SetIsAromatic(True)
    return mol


def bonds_of_mol(mol: Mol) -> np.ndarray:
    """(bonds, 3) as `mol_from_positions` takes them; what is none of the four, as a dative bond, counts as single."""
    codes = {kind: code for code, kind in enumerate(bond_types(), start=1)}
    rows = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), codes.get(b.GetBondType(), 1)) for b in mol.GetBonds()]
    return np.array(rows, np.int64).reshape(-1, 3)


def bond_types() -> tuple[BondType, ...]:
    """Of the orders 1 single, 2 double, 3 triple and 4 aromatic."""
    from rdkit.Chem import BondType

    return (BondType.SINGLE, BondType.DOUBLE, BondType.TRIPLE, BondType.AROMATIC)
