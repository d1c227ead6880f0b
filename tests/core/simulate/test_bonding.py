"""Bonds made and broken: reactions with known outcomes, and changes of geometry that are none."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.simulate.bonding import bonding_changed


def moved(atoms: ase.Atoms, i: int, shift: tuple[float, float, float]) -> ase.Atoms:
    copy = atoms.copy()
    copy.positions[i] += shift
    return copy


def pair(symbols: str, distance: float) -> ase.Atoms:
    return ase.Atoms(symbols, [[0, 0, 0], [distance, 0, 0]])


def test_a_proton_that_goes_over_counts_as_does_a_bond_that_breaks() -> None:
    water = ase.Atoms(
        "OHHOHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [2.8, 0, 0], [3.0, 0.9, 0.2], [3.0, -0.9, 0.2]]
    )
    assert bonding_changed(water, moved(water, 1, (0.86, 0, 0))) is True
    assert bonding_changed(water, moved(water, 1, (0.2, 0, 0))) is False
    assert bonding_changed(pair("CC", 1.5), pair("CC", 2.6)) is True
    assert bonding_changed(pair("CC", 2.6), pair("CC", 1.5)) is True


@pytest.mark.parametrize("distance", np.linspace(1.9, 2.15, 6))
def test_a_distance_that_wavers_about_the_line_does_not_count(distance: float) -> None:
    # RDKit draws it at 1.3 x 1.52 A = 1.98 A for two carbon atoms
    assert bonding_changed(pair("CC", 1.95), pair("CC", distance)) is False
    assert bonding_changed(pair("CC", distance), pair("CC", 1.95)) is False


@pytest.mark.parametrize("name", ["C6H6", "CH3CH2OH", "SiH4", "SO2", "PH3", "Si2H6", "CF4"])
def test_shaking_a_molecule_is_no_reaction(name: str) -> None:
    atoms = molecule(name)
    shaken = atoms.copy()
    shaken.rattle(0.05, seed=0)
    assert bonding_changed(atoms, shaken) is False


def test_metals_and_crystals_are_not_judged() -> None:
    assert bonding_changed(bulk("Cu"), bulk("Cu")) is None
    assert bonding_changed(pair("AuAu", 2.5), pair("AuAu", 4.0)) is None
    water = molecule("H2O", cell=[5, 5, 5], pbc=True)
    assert bonding_changed(water, moved(water, 1, (2, 0, 0))) is None
