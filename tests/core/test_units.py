"""units against scipy's CODATA constants, and the internal time unit against Newton's law in SI."""

import numpy as np
from scipy import constants

from atomsml import units

# ase.units is CODATA 2014, scipy newer: the Boltzmann constant moved most, by 6e-7
CODATA = 1e-6


def test_constants_agree_with_scipy():
    assert np.isclose(units.KB, constants.value("Boltzmann constant in eV/K"), rtol=CODATA)
    assert np.isclose(units.HARTREE, constants.value("Hartree energy in eV"), rtol=CODATA)
    assert np.isclose(units.BOHR, constants.value("Bohr radius") / constants.angstrom, rtol=CODATA)


def test_one_gigapascal_on_one_cubic_angstrom_is_an_energy():
    joule = constants.giga * constants.angstrom**3
    assert np.isclose(units.GPA, joule / constants.electron_volt, rtol=CODATA)


def test_internal_time_makes_newtons_law_free_of_factors():
    # 1 eV/A on 1 u for 1 fs from rest: v = a t in SI, and v = F/m t in internal units
    acceleration = (constants.electron_volt / constants.angstrom) / constants.atomic_mass  # m/s^2
    si = acceleration * constants.femto  # m/s
    internal = 1.0 * units.FS  # Angstrom per internal unit of time
    angstrom_per_fs = internal * units.FS
    assert np.isclose(angstrom_per_fs * constants.angstrom / constants.femto, si, rtol=CODATA)


def test_one_joule_per_square_metre_is_an_energy_on_an_area():
    per_area = constants.angstrom**2 / constants.electron_volt
    assert np.isclose(units.JOULE_PER_SQUARE_METRE, per_area, rtol=CODATA)
