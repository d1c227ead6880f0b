"""Formulas that exist are taken, and those of no molecule are refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase.build import molecule
from ase.collections import g2
from rdkit.Chem import GetPeriodicTable

from atomsml.generative.molecules.compositions import parse_formula
from atomsml.generative.molecules.valences import LARGEST_VALENCE, check_formula, spare_places


def test_molecules_that_exist_are_taken() -> None:
    """All closed-shell molecules of the G2 set; atoms and radicals in it have unpaired electrons."""
    taken = 0
    for name in g2.names:
        atoms = molecule(name)
        if len(atoms) == 1 or atoms.numbers.sum() % 2:
            continue
        check_formula(Counter(atoms.numbers.tolist()))
        taken += 1
    assert taken > 100


@pytest.mark.parametrize(
    "formula",
    [
        "C6H6O",
        "CO",
        "CO2",
        "HNO3",
        "C2H5NO2",
        "H2SO4",
        "HClO4",
        "SF6",
        "PF5",
        "BH3NH3",
        "N2O",
        "O3",
        "C60",
        "CH4",
        "HF",
    ],
)
def test_unusual_molecules_are_taken(formula: str) -> None:
    check_formula(parse_formula(formula))


def test_valences_are_those_of_the_periodic_table_of_rdkit() -> None:
    """Its largest, and what it does not count: hypervalent atoms of later periods bind with all outer electrons, and an
    acceptor of a lone pair has a bond more, which counts on both sides.
    """
    table = GetPeriodicTable()
    hypervalent, acceptors = {15, 16, 17, 33, 34, 35, 53}, {5, 13, 14}
    for z, valence in LARGEST_VALENCE.items():
        known = table.GetNOuterElecs(z) if z in hypervalent else max(table.GetValenceList(z))
        assert valence == known + 2 * (z in acceptors), table.GetElementSymbol(z)


@pytest.mark.parametrize("formula", ["CH6", "H4", "C2H8", "NH5", "NH5O", "H4O", "CF6", "C6H16", "HeH2"])
def test_too_few_valences_are_refused(formula: str) -> None:
    with pytest.raises(ValueError, match="cannot be one molecule"):
        check_formula(parse_formula(formula))


@pytest.mark.parametrize("formula", ["CH3", "C6H5", "NO", "H", "ClO2"])
def test_an_odd_number_of_electrons_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match="an odd number"):
        check_formula(parse_formula(formula))


@pytest.mark.parametrize(
    ("carbon", "hydrogen", "oxygen", "spare"),
    # benzene, toluene, phenol, hexylbenzene; a ring more than toluene; more hydrogen than toluene has
    [(6, 6, 0, 0), (7, 8, 0, 0), (6, 6, 1, 0), (12, 18, 0, 0), (7, 6, 0, 2), (7, 10, 0, -2)],
)
def test_places_around_a_benzene_ring(carbon: int, hydrogen: int, oxygen: int, spare: int) -> None:
    assert spare_places(np.array([[hydrogen, carbon, oxygen]]), (1, 6, 8), {6: 6}, hydrogens=6).tolist() == [spare]


def test_a_formula_of_more_atoms_than_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="the formula C99999999999H2 has more than 1000 atoms"):
        parse_formula("C99999999999H2")
