"""Requests of molecules whose bonds a SMILES gives: what cannot be placed is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit.Chem import rdDistGeom

from atomsml.generative.molecules.conformers import smiles_requests, with_stereo
from atomsml.generative.molecules.flow.model import MoleculeFlow, MoleculeFlowConfig, NetworkConfig
from atomsml.generative.molecules.graph_flow.model import GraphFlow, GraphFlowConfig
from atomsml.io import atoms_from_mol, parse_smiles

TINY = NetworkConfig(channels=8, pair_channels=8, vectors=2, hidden=8, num_layers=1)
ELEMENTS = (1, 6, 7, 8)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("CC[O-]", r"has the charge -1, and generators draw neutral molecules"),
        ("C[2H]", "has isotopes"),
        ("[CH3]", "has unpaired electrons"),
        ("[H][H]", "has no heavy atom"),
        ("CCS", "the model does not know S; its elements are H, C, N, O"),
        ("CC.O", "has 2 fragments"),
        ("CC(", "cannot be parsed"),
    ],
)
def test_what_cannot_be_placed_is_refused(smiles: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smiles_requests(GraphFlow(GraphFlowConfig(ELEMENTS, skeleton=TINY, hydrogens=TINY)), [smiles], [0])


def test_a_model_that_draws_bonds_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="draws the bonds of its molecules itself; give --smiles to a graph-flow"):
        smiles_requests(MoleculeFlow(MoleculeFlowConfig(ELEMENTS, skeleton=TINY, hydrogens=TINY)), ["CCO"], [0])


def test_a_mirror_image_is_turned_and_another_isomer_is_not() -> None:
    mol = parse_smiles("C[C@H](O)C#N")
    rdDistGeom.EmbedMolecule(mol, randomSeed=0)
    atoms = atoms_from_mol(mol)
    mirrored = with_stereo(atoms, "C[C@@H](O)C#N")
    assert mirrored is not None
    np.testing.assert_allclose(mirrored.get_all_distances(), atoms.get_all_distances())
    assert np.linalg.det(np.linalg.lstsq(atoms.positions, mirrored.positions)[0]) < 0
    for free in (with_stereo(atoms, "C[C@H](O)C#N"), with_stereo(atoms, "CC(O)C#N")):
        assert free is not None
        np.testing.assert_array_equal(free.positions, atoms.positions)
    alkene = parse_smiles("F/C=C/C")
    rdDistGeom.EmbedMolecule(alkene, randomSeed=0)
    assert with_stereo(atoms_from_mol(alkene), "F/C=C\\C") is None
