"""Engine: charges and dipoles of many structures are those that a calculator finds of each alone."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.properties.engine import Engine


def test_charges_and_dipoles_come_with_the_energies():
    calculator = pytest.importorskip("tblite.ase").TBLite(method="GFN2-xTB", verbosity=0)
    structures = [molecule("H2O"), bulk("NaCl", "rocksalt", 5.6), molecule("CH3OH")]
    found = Engine.of_ase(calculator).evaluate(structures)
    for before, after in zip(structures, found, strict=True):
        before.calc = calculator
        assert after.get_potential_energy() == pytest.approx(before.get_potential_energy(), abs=1e-9)
        assert after.get_charges() == pytest.approx(before.get_charges(), abs=1e-9)
        if not before.pbc.any():
            assert after.get_dipole_moment() == pytest.approx(before.get_dipole_moment(), abs=1e-9)
    assert "dipole" not in found[1].calc.results  # of a crystal
    assert found[0].get_dipole_moment()[2] < -0.3  # e A, from the oxygen down to the hydrogens
    assert np.linalg.norm(found[2].get_dipole_moment()) > 0.2
