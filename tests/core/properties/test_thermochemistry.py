"""Ideal gases beside published entropies, and low modes beside Grimme's formula."""

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from atomsml.properties.thermochemistry import Conditions, symmetry_number, thermochemistry
from atomsml.properties.vibrations import Vibrations

J_PER_MOL = units._e * units._Nav  # of one eV


def of(name: str, frequencies: list[float], held: bool = False) -> Vibrations:
    atoms = molecule(name)
    if held:
        atoms.set_constraint(FixAtoms([]))
    atoms.calc = SinglePointCalculator(atoms, energy=-10.0)
    return Vibrations(atoms, np.array(frequencies), np.zeros((len(frequencies), len(atoms), 3)), None, 6)


@pytest.mark.parametrize(
    ("name", "frequencies", "entropy"),
    [
        ("H2O", [1595, 3657, 3756], 188.84),
        ("N2", [2330], 191.61),
        ("CO2", [667, 667, 1333, 2349], 213.79),
        ("CH4", [1306] * 3 + [1534] * 2 + [2917] + [3019] * 3, 186.25),
    ],
)
def test_entropies_are_the_published_ones(name, frequencies, entropy):
    """J/mol/K at 298.15 K and 1 bar, of the NIST-JANAF tables; measured frequencies in cm^-1."""
    found = thermochemistry(of(name, frequencies), Conditions())
    assert found.entropy * J_PER_MOL == pytest.approx(entropy, abs=0.6)  # bonds of MP2: 2 R ln 1.03


def test_energies_follow_from_each_other():
    found = of("H2O", [1595, 3657, 3756])
    told = thermochemistry(found, Conditions(temperature=500.0))
    kt = units.kB * 500.0
    assert told.enthalpy - told.internal_energy == pytest.approx(kt)
    classical = -10.0 + found.zero_point_energy + 3 * kt
    excited = sum(e / np.expm1(e / kt) for e in found.energies)
    assert told.internal_energy == pytest.approx(classical + excited)
    assert told.free_energy == pytest.approx(told.enthalpy - 500.0 * told.entropy)
    thin = thermochemistry(found, Conditions(temperature=500.0, pressure=0.1))
    assert thin.entropy - told.entropy == pytest.approx(units.kB * np.log(10))
    triplet = thermochemistry(found, Conditions(temperature=500.0, multiplicity=3))
    assert triplet.entropy - told.entropy == pytest.approx(units.kB * np.log(3))


def test_low_modes_become_rotors():
    """Grimme 2012, equations 4 to 8, in SI units."""
    found = of("CH3CH2OH", [30.0, 1000.0])
    told = thermochemistry(found, Conditions())
    inertia = found.atoms.get_moments_of_inertia().mean() * units._amu * 1e-20
    expected = 0.0
    for frequency in (30.0, 1000.0):
        hertz = 100 * units._c * frequency
        mu = units._hplanck / (8 * np.pi**2 * hertz)
        reduced = mu * inertia / (mu + inertia)
        k, h, t = units._k, units._hplanck, 298.15
        rotor = k * (0.5 + np.log(np.sqrt(8 * np.pi**3 * reduced * k * t / h**2)))
        x = h * hertz / (k * t)
        oscillator = k * (x / np.expm1(x) - np.log(-np.expm1(-x)))
        weight = 1 / (1 + (100.0 / frequency) ** 4)
        expected += (1 - weight) * (rotor - oscillator)
    assert told.quasi_entropy - told.entropy == pytest.approx(expected / units._e, rel=1e-4)
    assert told.quasi_free_energy > told.free_energy


def test_where_atoms_are_held_everything_vibrates():
    told = thermochemistry(of("H2O", [300.0], held=True), Conditions())
    energy, kt = 300 * units.invcm, units.kB * 298.15
    assert told.internal_energy == pytest.approx(-10 + energy / 2 + energy / np.expm1(energy / kt))
    assert (told.symmetry_number, told.enthalpy, told.quasi_entropy) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "number"),
    [("H2O", 2), ("NH3", 3), ("CH4", 12), ("C6H6", 12), ("C2H4", 4), ("CO2", 2), ("HCN", 1), ("CH3OH", 1), ("O", 1)],
)
def test_symmetry_numbers(name, number):
    assert symmetry_number(molecule(name)) == number


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"temperature": 0.0}, "positive number of K, got 0"),
        ({"pressure": -1.0}, "positive number of bar, got -1"),
        ({"multiplicity": 0}, "1 or more, got 0"),
        ({"symmetry_number": 0}, "1 or more, got 0"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        Conditions(**conditions)
