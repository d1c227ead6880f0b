"""Bonds from positions: who is bonded to whom, and whole molecules."""

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.collections import g2
from rdkit import Chem

from atomsml.graph import AtomicGraph
from atomsml.io import REACH, atoms_from_smiles, bond_graph, mol_from_graph


def test_bond_graph_is_the_covalent_radius_criterion():
    # RDKit's radius of hydrogen is 0.31 A: bonded below 1.3 (0.31 + 0.31) = 0.806 A
    assert bond_graph(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.80]])) == {(0, 1)}
    assert bond_graph(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.81]])) == frozenset()


def test_bond_graph_sees_a_broken_bond():
    atoms = molecule("CH3OH")
    before = bond_graph(atoms)
    assert len(before) == 5
    atoms.rattle(0.02, seed=0)
    assert bond_graph(atoms) == before
    atoms.positions[atoms.symbols == "O"] += [0, 5.0, 0]
    assert bond_graph(atoms) != before


@pytest.mark.parametrize("name", ["C6H6", "CH3CONH2", "C4H4S", "CH3SiH3", "SO2", "bicyclobutane"])
def test_bonds_of_reference_geometries_hold_one_molecule_together(name):
    assert name in g2.names
    atoms = molecule(name)
    matrix = np.eye(len(atoms), dtype=int)
    for i, j in bond_graph(atoms):
        matrix[i, j] = matrix[j, i] = 1
    assert np.linalg.matrix_power(matrix, len(atoms)).all()


def test_mol_from_graph_counts_the_charge_it_is_given():
    graph = AtomicGraph.from_ase(atoms_from_smiles("[NH4+]"))
    assert Chem.GetFormalCharge(mol_from_graph(graph)) == 1
    assert Chem.GetFormalCharge(mol_from_graph(graph.replace(system_data={}), charge=1)) == 1
    with pytest.raises(
        ValueError, match=r"^no bond orders fit these positions with total charge \+0 .*; give the right"
    ) as e:
        mol_from_graph(graph, charge=0)
    assert "\n" not in str(e.value)


def test_bonds_are_perceived_in_one_open_system_only():
    with pytest.raises(ValueError, match="open systems only"):
        bond_graph(bulk("Cu"))
    with pytest.raises(ValueError, match="open systems only"):
        mol_from_graph(AtomicGraph.from_ase(bulk("Cu")))
    with pytest.raises(ValueError, match="this graph has 2"):
        mol_from_graph(AtomicGraph.from_list([AtomicGraph.from_smiles("C")] * 2))


def test_a_contact_across_a_small_ring_is_no_fifth_bond_of_carbon():
    """Within 1.2 times the radii, 1.82 A, the bridgeheads of bicyclo[1.1.1]pentane have five neighbours each."""
    atoms = atoms_from_smiles("C1C2CC1C2")
    heads = [i for i, j in enumerate(atoms.numbers) if j == 6 and (atoms.get_distances(i, range(5)) < 1.7).sum() == 4]
    assert len(heads) == 2
    middle = atoms.positions[heads].mean(axis=0)
    for i in heads:
        atoms.positions[i] = middle + 0.5 * 1.80 * (atoms.positions[i] - middle) / np.linalg.norm(
            atoms.positions[i] - middle
        )
    assert tuple(heads) in bond_graph(atoms, REACH)
    assert Chem.MolToSmiles(Chem.RemoveHs(mol_from_graph(AtomicGraph.from_ase(atoms)))) == "C1C2CC1C2"
    # a hydrogen that is bonded to carbon for sure is one too many
    methanium = molecule("CH4") + ase.Atom("H", [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"atom 0 \(C\) has 5 neighbours, which are too many"):
        mol_from_graph(AtomicGraph.from_ase(methanium), charge=1)
