"""Stereochemistry that is asked for, on conformers that RDKit embeds."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit.Chem import rdDistGeom

from atomsml.generative.molecules.graph_flow.stereo import right_handed, specifies_stereo
from atomsml.io import parse_smiles

MIRROR = np.array([1.0, 1.0, -1.0])


def embedded(smiles: str) -> np.ndarray:
    mol = parse_smiles(smiles)
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    positions: np.ndarray = mol.GetConformer().GetPositions()
    return positions


@pytest.mark.parametrize("smiles", ["C[C@H](O)C#N", "F/C=C\\F", "C[C@H](O)[C@@H](N)C#C", "C[C@@H]1C[C@H]1F"])
def test_the_right_one_is_taken_as_it_is(smiles: str) -> None:
    positions = embedded(smiles)
    assert specifies_stereo(parse_smiles(smiles))
    assert right_handed(parse_smiles(smiles), positions) is positions


@pytest.mark.parametrize("smiles", ["C[C@H](O)C#N", "C[C@H](O)[C@@H](N)C#C"])
def test_the_other_one_is_mirrored(smiles: str) -> None:
    positions = embedded(smiles) * MIRROR
    turned = right_handed(parse_smiles(smiles), positions)
    assert turned is not None
    assert turned is not positions
    np.testing.assert_allclose(np.abs(turned), np.abs(positions))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("F/C=C\\F", "F/C=C/F"),
        ("C[C@H](O)[C@@H](N)C#C", "C[C@H](O)[C@H](N)C#C"),
        ("C[C@@H]1C[C@H]1F", "C[C@@H]1C[C@@H]1F"),
    ],
)
def test_another_isomer_is_neither(asked: str, found: str) -> None:
    assert right_handed(parse_smiles(asked), embedded(found)) is None


def test_what_is_not_specified_is_free() -> None:
    """Both epimers of the second centre have the first one as asked."""
    for epimer in ("C[C@H](O)[C@@H](N)C#C", "C[C@H](O)[C@H](N)C#C"):
        assert right_handed(parse_smiles("C[C@H](O)C(N)C#C"), embedded(epimer)) is not None
    assert not specifies_stereo(parse_smiles("CC(O)C(N)C#C"))
