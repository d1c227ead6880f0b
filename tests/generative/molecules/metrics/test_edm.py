"""Suite edm: the published code on hard molecules, hand-made ones, and bonds just inside and outside the limits."""

import json
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import molecule

from atomsml.generative.molecules.metrics.edm import bond_orders, edm, largest_smiles, stability, whole_smiles

GOLDEN = Path(__file__).parents[3] / "data" / "edm_metrics" / "golden.json"  # its "about" says what made it


@pytest.mark.parametrize("name", ["CH4", "H2O", "NH3", "C2H4", "C2H2", "CH3OH", "HCN", "N2", "O2", "HF", "CO2", "PH3"])
def test_stable(name: str) -> None:
    found = stability([molecule(name)])
    assert found.molecules.tolist() == [True]
    assert found.atom_fraction == 1


@pytest.mark.parametrize(
    ("pair", "length", "order"),  # tabulated pm + margin, a little below and above
    [
        ("CC", 1.229, 3),
        ("CC", 1.231, 2),
        ("CC", 1.389, 2),
        ("CC", 1.391, 1),
        ("CC", 1.639, 1),
        ("CC", 1.641, 0),
        ("CN", 1.189, 3),
        ("NC", 1.191, 2),
        ("OH", 1.059, 1),
        ("HO", 1.061, 0),
        ("NN", 1.129, 3),
        ("OO", 1.259, 2),
        ("FC", 1.449, 1),
        ("BF", 1.30, 0),  # a pair of which the tables know nothing
    ],
)
def test_orders_at_the_limits(pair: str, length: float, order: int) -> None:
    atoms = ase.Atoms(pair, [(0, 0, 0), (0, 0, length)])
    assert bond_orders(atoms.numbers, atoms.positions).tolist() == [[0, order], [order, 0]]


def _benzene(bond: float) -> ase.Atoms:
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    return ase.Atoms("C6H6", np.concatenate([bond * ring, (bond + 1.084) * ring]))


def test_benzene_shows_that_aromatic_bonds_are_not_known() -> None:
    """1.39 A is the limit of a double bond: 1.395 A makes all single, valence 3; 1.385 A all double, valence 5."""
    found = stability([_benzene(1.395), _benzene(1.385)])
    assert [valences[:6].tolist() for valences in found.valences] == [[3] * 6, [5] * 6]
    assert [atoms.tolist() for atoms in found.stable] == [[False] * 6 + [True] * 6] * 2


def test_broken_methane() -> None:
    broken = molecule("CH4")
    broken.positions[4] *= 2
    found = stability([broken, molecule("CH4")])
    assert found.valences[0].tolist() == [3, 1, 1, 1, 0]
    assert found.stable[0].tolist() == [False, True, True, True, False]
    assert found.atom_fraction == 8 / 10
    assert found.molecule_fraction == 1 / 2


def test_elements() -> None:
    """Sulfur only with four bonds, phosphorus with three or five; what the tables lack is not stable."""
    assert stability([molecule("SH2")]).stable[0].tolist() == [False, True, True]
    assert not stability([ase.Atoms("He")]).molecules.any()
    assert not stability([ase.Atoms()]).molecules.any()
    assert np.isnan(stability([]).molecule_fraction)


def test_suite() -> None:
    broken = molecule("CH4")
    broken.positions[4] *= 2
    result = edm([molecule("H2O"), broken])
    assert result.metrics["atom_stability"].value == 6 / 8
    assert result.metrics["molecule_stability"].value == 1 / 2
    assert result.failures == ("", "atom 0: C with valence 3, and 1 more unstable atoms")
    assert result.columns["edm_valid"] == (1.0, 1.0)  # RDKit gives the hydrogen back


def _atoms(row: dict[str, list[int]]) -> ase.Atoms:
    return ase.Atoms(row["numbers"], row["positions"])


def test_numbers_are_those_of_the_published_code() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    molecules = [_atoms(row) for row in golden["molecules"]]
    result = edm(molecules, [_atoms(row) for row in golden["reference"]])
    assert {name: metric.value for name, metric in result.metrics.items()} == golden["metrics"]
    for row, atoms, stable in zip(golden["molecules"], molecules, stability(molecules).stable, strict=True):
        assert int(stable.sum()) == row["stable_atoms"]
        assert largest_smiles(atoms) == row["smiles"]


def test_of_two_pieces_the_largest_is_named() -> None:
    pieces = molecule("H2O") + ase.Atoms("CH4", molecule("CH4").positions + 6.0)
    assert largest_smiles(pieces) == largest_smiles(molecule("CH4"))
    assert set(whole_smiles(pieces).split(".")) == {largest_smiles(molecule("CH4")), largest_smiles(molecule("H2O"))}


def test_nothing_and_nowhere_are_not_valid() -> None:
    lost = molecule("CH4")
    lost.positions[0] = np.nan
    assert edm([ase.Atoms(), lost]).metrics["validity"].value == 0
