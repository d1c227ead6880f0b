"""SDF and MOL files of structures, read back by RDKit."""

from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from rdkit import Chem

from atomsml.io import atoms_from_smiles
from atomsml.io.sdf import bonds_hold, mol_of_atoms, write_structure_mols


def smiles_of(mol: Chem.Mol) -> str:
    return str(Chem.MolToSmiles(Chem.RemoveHs(mol)))


SMILES = ["C/C=C\\C", "CS(C)=O", "O=[N+]([O-])c1ccccc1", "[NH3+]CC(=O)[O-]", "C[NH3+]", "C[C@H](N)C(=O)O", "[CH3]"]


@pytest.mark.parametrize("smiles", SMILES)
def test_bonds_of_the_input_come_back(tmp_path: Path, smiles: str) -> None:
    atoms = atoms_from_smiles(smiles)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.25, forces=np.zeros((len(atoms), 3)))
    write_structure_mols(tmp_path / "out.sdf", [atoms, atoms])
    first, second = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)
    assert smiles_of(first) == smiles_of(second) == Chem.CanonSmiles(smiles)
    np.testing.assert_allclose(first.GetConformer().GetPositions(), atoms.positions, atol=1e-4)
    assert first.GetProp("bonds") == "given"
    assert first.GetDoubleProp("energy_eV") == -1.25
    assert first.GetDoubleProp("max_force_eV_per_A") == 0
    assert first.HasProp("charge") == (smiles == "C[NH3+]")


@pytest.mark.parametrize("smiles", SMILES[:-1])  # radicals are not perceived
def test_without_bonds_they_are_perceived(tmp_path: Path, smiles: str) -> None:
    atoms = atoms_from_smiles(smiles)
    del atoms.info["bonds"]
    write_structure_mols(tmp_path / "out.mol", [atoms])
    assert smiles_of(Chem.MolFromMolFile(str(tmp_path / "out.mol"), removeHs=False)) == Chem.CanonSmiles(smiles)
    assert mol_of_atoms(atoms)[1] == "perceived"


def test_a_mol_file_has_the_energy_in_its_comment(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=-2.5)
    write_structure_mols(tmp_path / "out.mol", [atoms])
    assert (tmp_path / "out.mol").read_text().splitlines()[2] == "energy_eV -2.50000000"
    with pytest.raises(ValueError, match="a MOL file holds one structure, not 2"):
        write_structure_mols(tmp_path / "out.mol", [atoms, atoms])


@pytest.mark.parametrize(
    ("atoms", "bonds"),
    [
        (molecule("CH3"), "distances only"),
        (ase.Atoms("CH5", [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]]), "none"),
        (ase.Atoms("He"), "distances only"),
    ],
)
def test_whatever_has_no_bond_orders_can_be_read_again(tmp_path: Path, atoms: ase.Atoms, bonds: str) -> None:
    write_structure_mols(tmp_path / "out.sdf", [atoms])
    (mol,) = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)
    assert mol.GetProp("bonds") == bonds
    assert [atom.GetAtomicNum() for atom in mol.GetAtoms()] == atoms.numbers.tolist()


def test_bonds_hold_until_one_breaks_or_forms() -> None:
    atoms = atoms_from_smiles("OCC=O")
    assert bonds_hold(atoms)
    atoms.rattle(0.03, seed=0)
    assert bonds_hold(atoms)
    apart, near = atoms.copy(), atoms.copy()
    hydrogen = int(np.flatnonzero(atoms.numbers == 1)[0])
    apart.positions[hydrogen] += 3 * (atoms.positions[hydrogen] - atoms.positions[0])
    near.positions[hydrogen] = atoms.positions[3] + [0.0, 0.0, 0.9]
    assert not bonds_hold(apart)
    assert not bonds_hold(near)


def test_a_cell_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a cell"):
        write_structure_mols(tmp_path / "out.sdf", [bulk("Cu")])
