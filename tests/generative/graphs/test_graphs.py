from __future__ import annotations

import pytest
import torch
from rdkit import Chem

from atomsml.generative.graphs.graphs import MolecularGraphs

SMILES = (
    "c1cc[nH]c1",  # hydrogen on an aromatic nitrogen
    "CS(N)(=O)=O",  # six bonds
    "C[N+](=O)[O-]",  # charges inside
    "N#CC1CC1",
    "O=c1[nH]cnc2nc[nH]c12",  # two fused aromatic rings
    "Clc1ccc(Br)s1",
    "FC(F)(F)OP(=O)(O)O",
    "O",
)


@pytest.mark.parametrize("explicit", [False, True])
def test_molecules_come_back_as_they_were(explicit: bool) -> None:
    mols = [Chem.MolFromSmiles(smiles) for smiles in SMILES]
    graphs = MolecularGraphs.from_mols([Chem.AddHs(mol) for mol in mols] if explicit else mols)
    assert [Chem.MolToSmiles(mol) for mol in graphs.to_mols()] == [Chem.MolToSmiles(mol) for mol in mols]
    assert graphs.sizes.tolist() == [mol.GetNumAtoms() for mol in mols]


def test_bonds_are_those_of_a_kekule_structure() -> None:
    graphs = MolecularGraphs.from_mols([Chem.MolFromSmiles(smiles) for smiles in ("c1ccccc1", "C=CC#N")])
    assert graphs.bonds[0].sum(dim=1).tolist() == [3] * 6  # of benzene, three single and three double bonds
    assert sorted(graphs.bonds[0].triu().flatten().tolist())[-6:] == [1, 1, 1, 2, 2, 2]
    assert graphs.bonds[1, :4, :4].tolist() == [[0, 2, 0, 0], [2, 0, 1, 0], [0, 1, 0, 3], [0, 0, 3, 0]]
    assert graphs.hydrogens[1].tolist() == [2, 1, 0, 0, 0, 0]
    assert not graphs.bonds[1, 4:].any()
    assert not graphs.mask[1, 4:].any()


def test_selected_graphs_have_no_padding_of_the_others() -> None:
    graphs = MolecularGraphs.from_mols([Chem.MolFromSmiles(smiles) for smiles in SMILES])
    small = graphs.select([3, 7])
    assert small.numbers.shape == (2, 5)
    assert small.bonds.shape == (2, 5, 5)
    assert torch.equal(small.bonds[0], graphs.bonds[3, :5, :5])
    assert [Chem.MolToSmiles(mol) for mol in small.to_mols()] == ["N#CC1CC1", "O"]
    assert len(graphs.select([])) == 0


@pytest.mark.parametrize(
    ("smiles", "said"),
    [("[H][H]", "no heavy atoms"), ("[CH3]", "unpaired electron"), ("*C", "no element"), ("N->[Fe]", "dative")],
)
def test_what_is_no_such_graph_is_refused(smiles: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"molecule 1 .*{said}"):
        MolecularGraphs.from_mols([Chem.MolFromSmiles("C"), Chem.MolFromSmiles(smiles)])
