"""Bond perception and suite strict, against RDKit on molecules embedded from SMILES."""

import time
from functools import cache

import ase
import numpy as np
import pytest
from ase.build import molecule
from rdkit import Chem

from atomsml.generative.molecules.metrics.perception import MAX_ATOMS, Perceived, perceive, perceived_mol
from atomsml.generative.molecules.metrics.strict import invalid, strict
from atomsml.io import atoms_from_smiles

SOUND = [
    "CC(C)O",
    "c1ccc2ccccc2c1",
    "C[N+](=O)[O-]",  # nitro
    "[NH3+]CC(=O)[O-]",  # zwitterion
    "CN=[N+]=[N-]",  # azide
    "[C-]#[N+]C",
    "c1cc[nH]c1",
    "[O-][n+]1ccccc1",
    "O=c1cccc[nH]1",
    "CS(=O)(=O)N",
    "OP(=O)(O)O",
    "c1ccsc1Br",
    "FC(F)(F)C#N",
    "C[S+](C)[CH2-]",
    "CS(C)=O",
    "CC#[N+][O-]",  # nitrile oxide
    "C[N+](C)(C)CC(=O)[O-]",  # betaine
    "OCl(=O)(=O)=O",  # RDKit writes charges
]
# whose charges are not those of a group that has no other formula
CHARGED = ["[NH3+]CC(=O)[O-]", "C[S+](C)[CH2-]", "C[N+](C)(C)CC(=O)[O-]"]


@cache
def _sound() -> tuple[list[ase.Atoms], list[Perceived]]:
    molecules = [atoms_from_smiles(smiles) for smiles in SOUND]
    return molecules, list(perceive(molecules))


def test_sound_molecules_are_valid_and_are_what_they_were_made_from() -> None:
    molecules, perceived = _sound()
    result = strict(molecules, perceived)
    assert result.failures == ("",) * len(SOUND)
    assert result.columns["valid_uncharged"] == tuple(float(smiles not in CHARGED) for smiles in SOUND)
    assert [found.smiles for found in perceived] == [Chem.CanonSmiles(smiles) for smiles in SOUND]
    charged = sum(smiles in CHARGED for smiles in SOUND)
    assert {name: metric.value for name, metric in result.metrics.items()} == {
        "valid": 1,
        "valid_uncharged": pytest.approx(1 - charged / len(SOUND)),
        "valid_connected": 1,
        "unique": 1,
    }


def test_bonds_and_charges_are_those_of_rdkit() -> None:
    for smiles, found, atoms in zip(SOUND, _sound()[1], _sound()[0], strict=True):
        oracle = Chem.AddHs(Chem.MolFromSmiles(smiles))  # atoms_from_smiles keeps its order
        assert found.charges.sum() == 0
        pairs = {(min(i, j), max(i, j)) for i, j, _ in found.bonds.tolist()}
        assert pairs == {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in oracle.GetBonds()}
        mol = perceived_mol(atoms, found)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False) == found.smiles
        np.testing.assert_allclose(mol.GetConformer().GetPositions(), atoms.positions)


def test_carbon_monoxide() -> None:
    (found,) = perceive([molecule("CO")])
    assert found.smiles == "[C-]#[O+]"
    assert found.charges.tolist() == [1, -1]  # ASE names oxygen first
    assert invalid(molecule("CO").numbers, found) == ""


def test_what_is_refused() -> None:
    two = molecule("H2O") + molecule("CH4")
    two.positions[3:] += 5
    broken = molecule("CH4")
    broken.positions[4] *= 3  # a methyl radical and a hydrogen atom
    molecules = [molecule("CH3"), molecule("CH2_s1A1d"), two, broken, ase.Atoms("He"), molecule("H2O")]
    result = strict(molecules, list(perceive(molecules)), {"C"})
    methyl, carbene, pieces, apart, helium, water = result.failures
    assert methyl.startswith("no bond orders of a neutral molecule")
    assert carbene.endswith("atom 0 (C) has too few neighbours (2), and no multiple bond can make up for it")
    assert pieces == "2 pieces"
    assert apart.endswith("atom 4 (H) has no neighbours, and no multiple bond can make up for it")
    assert helium.startswith("no bond orders")
    assert water == ""
    assert result.metrics["valid"].value == 2 / 6
    assert result.metrics["valid_connected"].value == 1 / 6
    assert (result.metrics["novel"].value, result.metrics["novel"].of) == (1, 2)  # C.O and O, of which neither is C


def test_unique_and_novel() -> None:
    molecules = [molecule("H2O"), molecule("H2O"), molecule("CH4"), molecule("NH3")]
    metrics = strict(molecules, list(perceive(molecules)), {"O", "CC"}).metrics
    assert (metrics["unique"].value, metrics["unique"].of) == (3 / 4, 4)
    assert (metrics["novel"].value, metrics["novel"].of) == (2 / 3, 3)


@pytest.mark.parametrize(
    ("number", "charge", "aromatic", "others", "allowed"),
    [
        (6, 0, 3, 0, True),  # between two rings
        (6, 0, 2, 1, True),
        (6, 0, 2, 0, False),  # an aromatic carbon that lost its hydrogen: with orders of 1.5, valence 3
        (6, 0, 3, 1, False),
        (6, 1, 0, 3, False),
        (6, -1, 0, 3, True),
        (7, 0, 0, 4, False),
        (7, 1, 0, 4, True),
        (7, 0, 2, 0, True),
        (8, 0, 0, 3, False),
        (8, -1, 0, 1, True),
    ],
)
def test_valences(number: int, charge: int, aromatic: int, others: int, allowed: bool) -> None:
    """An atom with single and aromatic bonds to hydrogens, whose own valences do not matter: the atom comes first."""
    orders = [4] * aromatic + [1] * others
    bonds = np.array([[0, i, order] for i, order in enumerate(orders, start=1)])
    charges = np.array([charge] + [0] * len(orders))
    reason = invalid(np.array([number] + [1] * len(orders)), Perceived("", 1, bonds, charges, "?"))
    assert reason.startswith("atom 0:") is not allowed


def test_a_molecule_that_makes_no_sense_is_given_up_at_once() -> None:
    """RDKit tries bond orders of this sheet of nitrogen for hours."""
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    started = time.perf_counter()
    found = list(perceive([molecule("H2O"), ase.Atoms("N36", 1.4 * grid), molecule("CH4")]))
    assert [each.smiles for each in found] == ["O", "", "C"]
    assert found[1].reason.startswith("no bond orders of a neutral molecule: ")
    assert time.perf_counter() - started < 5


def test_time_limit() -> None:
    (found,) = perceive([molecule("C6H6")], time_limit=0.0)
    assert found.reason == "no bond orders of a neutral molecule: bond orders took more than 0 s"


def test_what_needs_no_rdkit() -> None:
    odd = molecule("H2O")
    odd.positions[0] = np.nan
    many = ase.Atoms(f"H{MAX_ATOMS + 1}", np.zeros((MAX_ATOMS + 1, 3)))
    reasons = [found.reason for found in perceive([ase.Atoms(), odd, many])]
    assert reasons == ["no atoms", "a position that is not finite", f"more than {MAX_ATOMS} atoms"]
    assert list(perceive([])) == []
