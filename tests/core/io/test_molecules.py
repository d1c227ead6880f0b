"""RDKit converters: geometries from SMILES, bonds from geometries, and clear refusals."""

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom, rdForceFieldHelpers
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from atomsml.graph import AtomicGraph
from atomsml.io import (
    atoms_from_smiles,
    bond_graph,
    bonds_of_mol,
    mol_from_graph,
    mol_from_positions,
    mol_from_smiles,
)

MOLECULES = [
    "O",
    "CCO",
    "c1ccccc1C(=O)O",
    "C[C@H](N)C(=O)O",  # alanine, one centre
    "C[C@@H](O)[C@H](F)Cl",  # two centres
    "F/C=C/Cl",
    "F/C=C\\Cl",
    "CC(=O)Oc1ccccc1C(=O)O",  # aspirin
    "C[N+](=O)[O-]",
    "[NH3+]CC(=O)[O-]",  # a zwitterion
    "[NH4+]",
    "CC(=O)[O-]",
    "CS(=O)(=O)N",
    "Brc1ccncc1",
    "C1C[C@H]2CC[C@@H]1C2",
    "C#CC#N",
    "[H][H]",
]


def pairs_of(mol: Chem.Mol) -> frozenset[tuple[int, int]]:
    ends = ((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds())
    return frozenset((min(i, j), max(i, j)) for i, j in ends)


@pytest.mark.parametrize("smiles", MOLECULES)
def test_smiles_to_geometry_and_back(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    atoms = atoms_from_smiles(smiles)
    assert atoms.numbers.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    assert not atoms.pbc.any()
    assert bond_graph(atoms) == pairs_of(mol)
    assert atoms.info["charge"] == Chem.GetFormalCharge(mol) == atoms.get_initial_charges().sum()
    # stereochemistry, bond orders and charges are perceived from the positions and the total charge alone
    back = mol_from_graph(AtomicGraph.from_ase(atoms))
    assert CalcMolFormula(back) == CalcMolFormula(mol)
    assert Chem.MolToSmiles(Chem.RemoveHs(back)) == Chem.CanonSmiles(smiles)
    assert np.array_equal(AtomicGraph.from_rdkit(back).positions, atoms.positions)


def test_mirror_images_are_told_apart():
    left, right = (AtomicGraph.from_smiles(s) for s in ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"))
    assert Chem.MolToSmiles(mol_from_graph(left)) != Chem.MolToSmiles(mol_from_graph(right))
    mirrored = left.replace(positions=-left.positions)
    assert Chem.MolToSmiles(mol_from_graph(mirrored)) == Chem.MolToSmiles(mol_from_graph(right))


def test_one_seed_one_conformer():
    first, again, other = (atoms_from_smiles("CCCCCCO", seed) for seed in (3, 3, 4))
    assert np.array_equal(first.positions, again.positions)
    assert np.abs(first.get_all_distances() - other.get_all_distances()).max() > 0.1
    with pytest.raises(ValueError, match=r"seed .* got -1"):
        atoms_from_smiles("C", seed=-1)


def test_geometry_is_a_minimum_of_mmff94():
    mol = mol_from_smiles("CC(=O)Oc1ccccc1C(=O)O")
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    assert np.abs(field.CalcGrad()).max() < 0.1  # kcal/mol/A, where ETKDG alone leaves tens
    raw = Chem.AddHs(Chem.MolFromSmiles("CC(=O)Oc1ccccc1C(=O)O"))
    rdDistGeom.EmbedMolecule(raw, randomSeed=0)
    assert np.abs(rdForceFieldHelpers.MMFFGetMoleculeForceField(raw, properties).CalcGrad()).max() > 10


def test_uff_stands_in_for_mmff94():
    mol = mol_from_smiles("OB(O)c1ccccc1")
    assert not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol)
    assert np.abs(rdForceFieldHelpers.UFFGetMoleculeForceField(mol).CalcGrad()).max() < 0.1


def test_strained_rings_are_embedded_without_etkdg():
    mol = mol_from_smiles("C1Cc2ccc(cc2)CCc2ccc1cc2")  # paracyclophane: its benzene rings are boats
    assert bond_graph(AtomicGraph.from_rdkit(mol).to_ase()) == pairs_of(mol)


def test_the_embedding_stands_where_no_force_field_has_parameters(capfd):
    atoms = atoms_from_smiles("FS(F)(F)(F)(F)F")
    assert capfd.readouterr().err == ""  # UFF would complain of sulfur with six bonds
    embedded = Chem.AddHs(Chem.MolFromSmiles("FS(F)(F)(F)(F)F"))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = 0
    rdDistGeom.EmbedMolecule(embedded, parameters)
    assert np.array_equal(atoms.positions, embedded.GetConformer().GetPositions())


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C1CC", "cannot be parsed"),
        ("hello world", "cannot be parsed"),
        ("CC(C)(C)(C)C", "Explicit valence for atom # 1 C, 5, is greater than permitted"),
        ("c1cccc1", "kekulize"),
        ("", "has no atoms"),
        ("CC*", "wildcard"),
        ("CCO.O", "2 fragments"),
        ("[Na+].[Cl-]", "2 fragments"),
        ("C1C[C@H]2CC[C@H]1C2", "cannot be embedded"),  # norbornane bridged from inside,
    ],
)
def test_smiles_without_a_geometry_are_refused_in_one_line(capfd, smiles, reason):
    with pytest.raises(ValueError, match=rf"^SMILES .*{reason}") as caught:
        AtomicGraph.from_smiles(smiles)
    assert "\n" not in str(caught.value)
    assert repr(smiles) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_rdkit_speaks_again_afterwards(capfd):
    with pytest.raises(ValueError, match="cannot be parsed"):
        AtomicGraph.from_smiles("C1CC")
    assert Chem.MolFromSmiles("C1CC") is None
    assert "SMILES Parse Error" in capfd.readouterr().err


def test_dtype_of_a_smiles_graph():
    graph = AtomicGraph.from_smiles("CO", dtype=torch.float32)
    assert graph.dtype == graph.cell.dtype == torch.float32
    np.testing.assert_allclose(graph.positions, AtomicGraph.from_smiles("CO").positions, rtol=0, atol=1e-6)


def test_graph_of_a_mol_by_hand():
    mol = Chem.AddHs(Chem.MolFromSmiles("[OH-]"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    graph = AtomicGraph.from_rdkit(mol)
    assert graph.numbers.tolist() == [8, 1]
    assert graph.positions.tolist() == mol.GetConformer().GetPositions().tolist()
    assert graph.atom_data["initial_charges"].tolist() == [-1, 0]
    assert graph.system_data["charge"].tolist() == [-1]


def test_mol_that_was_never_sanitised_is_taken():
    block = "3\n\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"
    graph = AtomicGraph.from_rdkit(Chem.MolFromXYZBlock(block))
    assert graph.numbers.tolist() == [8, 1, 1]


def test_mols_that_are_no_structure_are_refused():
    flat = Chem.AddHs(Chem.MolFromSmiles("CO"))
    with pytest.raises(ValueError, match="no three-dimensional conformer"):
        AtomicGraph.from_rdkit(flat)
    rdDepictor.Compute2DCoords(flat)
    with pytest.raises(ValueError, match="no three-dimensional conformer"):
        AtomicGraph.from_rdkit(flat)
    with pytest.raises(ValueError, match=r"implicit hydrogens; call Chem\.AddHs"):
        AtomicGraph.from_rdkit(Chem.RemoveHs(mol_from_smiles("CO")))
    wildcard = mol_from_smiles("CO")
    wildcard.GetAtomWithIdx(5).SetAtomicNum(0)
    with pytest.raises(ValueError, match="atom 5 of the RDKit Mol is a wildcard"):
        AtomicGraph.from_rdkit(wildcard)


def test_a_mol_from_positions_has_what_it_is_given_and_nothing_else():
    """Pyridine with the aromatic bonds that RDKit itself finds, and the ammonium ion, come back from their parts."""
    for smiles in ("c1ccncc1", "C[NH3+]", "CC#N", "N#C/C=C/C(=O)[O-]"):
        mol = mol_from_smiles(smiles)
        charges = [atom.GetFormalCharge() for atom in mol.GetAtoms()]
        numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        positions = mol.GetConformer().GetPositions()
        again = mol_from_positions(numbers, positions.tolist(), bonds_of_mol(mol).tolist(), charges)
        assert np.array_equal(again.GetConformer().GetPositions(), positions)
        assert again.GetConformer().Is3D()
        Chem.SanitizeMol(again)
        assert again.GetNumAtoms() == mol.GetNumAtoms()
        assert all(atom.GetTotalNumHs() == 0 for atom in again.GetAtoms())
        assert np.array_equal(bonds_of_mol(again), bonds_of_mol(mol))
        plain = [Chem.MolToSmiles(Chem.RemoveHs(each), isomericSmiles=False) for each in (mol, again)]
        assert plain[0] == plain[1]
