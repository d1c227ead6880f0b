"""Masses that move from heavy atoms to hydrogen."""

import ase
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.vibrations import Vibrations

from atomsml.io import bond_graph
from atomsml.simulate.dynamics.masses import repartition_masses


def test_bonds_and_total_mass_are_those_of_the_molecule():
    atoms = molecule("CH3CH2OH")
    heavier = repartition_masses(atoms)
    assert heavier.get_masses().sum() == pytest.approx(atoms.get_masses().sum())
    hydrogen = atoms.numbers == 1
    assert heavier.get_masses()[hydrogen] == pytest.approx(3.024)
    bonded = np.zeros(len(atoms))
    for i, j in bond_graph(atoms):
        bonded[i] += hydrogen[j]
        bonded[j] += hydrogen[i]
    moved = (3.024 - 1.008) * bonded[~hydrogen]
    assert heavier.get_masses()[~hydrogen] == pytest.approx(atoms.get_masses()[~hydrogen] - moved)


def test_bonds_across_a_periodic_boundary_count():
    water = molecule("H2O", cell=[6, 6, 6], pbc=True)
    shifted = water.copy()
    shifted.positions[1] += [6, -12, 0]
    assert (repartition_masses(shifted).get_masses() == repartition_masses(water).get_masses()).all()


def test_hydrogen_without_a_heavy_neighbour_stays():
    masses = repartition_masses(ase.Atoms("H3", [[0, 0, 0], [0.74, 0, 0], [5, 0, 0]])).get_masses()
    assert (masses == 1.008).all()


def test_the_fastest_vibration_slows_down(tmp_path):
    frequencies = []
    for atoms in (molecule("CH4"), repartition_masses(molecule("CH4"), hydrogen=2.5)):
        atoms.calc = EMT()
        vibrations = Vibrations(atoms, name=str(tmp_path / str(len(frequencies))))
        vibrations.run()
        frequencies.append(vibrations.get_frequencies().real.max())
    assert frequencies[1] < 0.75 * frequencies[0]


def test_what_is_too_heavy_is_refused():
    with pytest.raises(ValueError, match=r"atom 0, C, would have 2\.04 u, less than its hydrogen of 3\.5 u"):
        repartition_masses(molecule("CH4"), hydrogen=3.5)
