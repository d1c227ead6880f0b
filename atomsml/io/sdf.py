"""SDF and MOL files of structures, with bonds, formal charges and energies.

Bonds are those that `atoms.info["bonds"]` has, else they are perceived from the positions. An SDF record says what is
known in data fields, a MOL file its energy in the comment line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ase
import numpy as np

from atomsml.io.bonds import REACH, bond_graph, mol_bonded, mol_joined, with_bond_orders
from atomsml.io.molecules import mol_from_positions

if TYPE_CHECKING:
    from rdkit.Chem import Mol

CONFORMER_FIELDS = ("relative_energy_kcal_per_mol", "degeneracy", "weight")  # which `atoms.info` may have
MOL_FILES = (".sdf", ".mol")
APART = 1.45  # times the sum of covalent radii: atoms that are further apart are bonded no more


def write_mols(path: Path, mols: Iterable[Mol]) -> None:
    """Write Mols, with their properties as data fields, as an SDF file."""
    from rdkit import Chem

    with path.open("w", encoding="utf-8") as file:  # not by RDKit's writer, which crashes on a full disk
        for mol in mols:
            file.write(Chem.SDWriter.GetText(mol, kekulize=False))  # it is done where it can be done


def write_structure_mols(path: Path, images: Sequence[ase.Atoms]) -> None:
    """Write open structures as SDF, or a single one as MOL, by the suffix of `path`.

    | data field | meaning |
    |---|---|
    | formula | in Hill order |
    | bonds | `given` by the input, `perceived`, `distances only` (single bonds where atoms are near), or `none` |
    | charge | total charge, e; where it is not 0 |
    | energy_eV, energy_std_eV, max_force_eV_per_A | what a calculator found |
    | relative_energy_kcal_per_mol, degeneracy, weight | of a conformer |

    Raises:
        ValueError: a periodic structure, or several for a MOL file.
    """
    from rdkit import Chem

    if any(atoms.pbc.any() for atoms in images):
        raise ValueError("SDF and MOL files hold molecules, without a cell")
    mols = [_record(atoms) for atoms in images]
    if path.suffix.lower() != ".mol":
        write_mols(path, mols)
        return
    if len(mols) != 1:
        raise ValueError(f"a MOL file holds one structure, not {len(mols)}")
    (mol,) = mols
    if mol.HasProp("energy_eV"):
        mol.SetProp("MolFileComments", f"energy_eV {mol.GetProp('energy_eV')}")
    path.write_text(Chem.MolToMolBlock(mol, kekulize=False), encoding="utf-8")


def bonds_hold(atoms: ase.Atoms) -> bool:
    """Whether `atoms.info["bonds"]` are still the bonds: none is far longer than usual, and no others have formed."""
    if atoms.pbc.any():
        return True  # distances do not say
    given = {(min(i, j), max(i, j)) for i, j, _ in np.asarray(atoms.info["bonds"]).tolist()}
    return bond_graph(atoms, REACH) <= given <= bond_graph(atoms, APART)


def mol_of_atoms(atoms: ase.Atoms) -> tuple[Mol, str]:
    """Mol of an open structure, and where its bonds come from, as the field `bonds` of an SDF file says.

    Whatever the atoms are, the Mol has them all where they are, and a file of it can be read again.
    """
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        if "bonds" in atoms.info:
            charges = np.rint(atoms.get_initial_charges()).astype(int).tolist()
            bonds = np.asarray(atoms.info["bonds"]).tolist()
            given = mol_from_positions(atoms.numbers.tolist(), atoms.positions.tolist(), bonds, charges)
            if Chem.SanitizeMol(given, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
                return _kekulized(given), "given"
        joined = mol_bonded(atoms)
        try:
            return _kekulized(with_bond_orders(joined, _charge(atoms))), "perceived"
        except (ValueError, TimeoutError):
            if not Chem.DetectChemistryProblems(joined):
                return joined.GetMol(), "distances only"
            return mol_joined(atoms, reach=0.0).GetMol(), "none"


def mol_with_bonds(atoms: ase.Atoms) -> Mol:
    """Mol of an open structure with orders of bonds, aromatic rings and the stereochemistry of its positions.

    Raises:
        ValueError: orders of bonds are neither given nor perceived.
    """
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    mol, source = mol_of_atoms(atoms)
    if source not in ("given", "perceived"):
        raise ValueError("has bonds that are not known; give it as SMILES, or as a file with bonds, such as SDF")
    with BlockLogs():
        Chem.SanitizeMol(mol)
        Chem.AssignStereochemistryFrom3D(mol, replaceExistingTags=True)
    return mol


def _charge(atoms: ase.Atoms) -> int:
    return round(atoms.info.get("charge", atoms.get_initial_charges().sum()))


def _kekulized(mol: Mol) -> Mol:
    """With the stereochemistry of its positions."""
    from rdkit import Chem

    Chem.AssignStereochemistryFrom3D(mol, replaceExistingTags=True)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return Chem.Mol(mol)


def _record(atoms: ase.Atoms) -> Mol:
    mol, bonds = mol_of_atoms(atoms)
    formula = atoms.get_chemical_formula("hill")
    fields = {"_Name": formula, "formula": formula, "bonds": bonds}
    if _charge(atoms):
        fields["charge"] = str(_charge(atoms))
    results = {} if atoms.calc is None else atoms.calc.results
    if "energy" in results:
        fields["energy_eV"] = f"{results['energy']:.8f}"
    if "energy_std" in atoms.info:
        fields["energy_std_eV"] = f"{float(atoms.info['energy_std']):.8f}"
    if "forces" in results:
        fields["max_force_eV_per_A"] = f"{np.linalg.norm(results['forces'], axis=1).max():.6f}"
    fields |= {name: f"{float(atoms.info[name]):.6g}" for name in CONFORMER_FIELDS if name in atoms.info}
    for name, value in fields.items():
        mol.SetProp(name, value)
    return mol
