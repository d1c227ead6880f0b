"""Equations of state beside ASE's and pymatgen's, of the same energies and of the same calculator."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.eos import EquationOfState as EosOfAse
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from pymatgen.analysis.eos import EOS as EosOfPymatgen

from atomsml.properties.engine import Engine
from atomsml.properties.eos import EosSettings, birch_murnaghan, equations_of_state, fit, vinet
from atomsml.properties.task import Failure, Start
from atomsml.units import GPA


@pytest.mark.parametrize(("form", "theirs"), [("birch-murnaghan", "birch_murnaghan"), ("vinet", "vinet")])
def test_fits_as_pymatgen(form, theirs):
    """Of energies that are no such curve, so that it matters what is fitted."""
    volumes = np.linspace(36.0, 46.0, 9)
    energies = 0.01 * (volumes - 40.5) ** 2 - 2e-4 * (volumes - 40.5) ** 3 + 1e-4 * np.sin(volumes) - 3.0
    e0, v0, b0, b1 = fit(volumes, energies, form)
    other = EosOfPymatgen(eos_name=theirs).fit(volumes, energies)
    assert e0 == pytest.approx(other.e0, abs=1e-7)
    assert v0 == pytest.approx(other.v0, rel=1e-6)
    assert b0 / GPA == pytest.approx(other.b0_GPa, rel=1e-5)
    assert b1 == pytest.approx(other.b1, rel=1e-4)


@pytest.mark.parametrize("form", [birch_murnaghan, vinet])
@pytest.mark.parametrize("b1", [4.7, 1.0])  # at 1 the textbook's form of Vinet's curve is 0 / 0
def test_numbers_are_what_their_names_say(form, b1):
    """By derivatives of the energy: B = V d2E/dV2, and B' = dB/dp = -(dB/dV) / (d2E/dV2)."""
    e0, v0, b0, h = -3.0, 40.0, 0.6, 0.02
    energy = form(np.array([v0 - 2 * h, v0 - h, v0, v0 + h, v0 + 2 * h]), e0, v0, b0, b1)
    second = (energy[1] - 2 * energy[2] + energy[3]) / h**2
    third = (energy[4] - 2 * energy[3] + 2 * energy[1] - energy[0]) / (2 * h**3)
    assert energy[2] == pytest.approx(e0, abs=1e-12)
    assert (energy[3] - energy[1]) / (2 * h) == pytest.approx(0, abs=1e-6)
    assert v0 * second == pytest.approx(b0, rel=1e-4)
    assert -(second + v0 * third) / second == pytest.approx(b1, rel=1e-3)


def test_the_curve_of_vinet_is_the_textbooks_and_soft_ones_are_fitted():
    volumes, e0, v0, b0 = np.linspace(36.0, 44.0, 11), -3.0, 40.0, 0.6
    z = (volumes / v0) ** (1 / 3)
    for b1 in (0.5, 0.9, 1.001, 1.3, 5.0):
        bracket = 2 - (5 + 3 * b1 * (z - 1) - 3 * z) * np.exp(-1.5 * (b1 - 1) * (z - 1))
        energies = e0 + 2 * v0 * b0 / (b1 - 1) ** 2 * bracket
        # the textbook's rounding, of 2 V0 B0 / (B' - 1)^2 = 5e7 eV, is some 1e-8 eV
        assert vinet(volumes, e0, v0, b0, b1) == pytest.approx(energies, abs=1e-7)
        assert fit(volumes, vinet(volumes, e0, v0, b0, b1), "vinet")[3] == pytest.approx(b1, abs=1e-4)


def test_of_metals_as_by_hand_with_ase():
    metals = [bulk("Cu"), bulk("Au"), bulk("Ni", cubic=True)]
    found = dict(equations_of_state(metals, Engine.of_ase(EMT()), EosSettings(volumes=7, range=0.06)))
    for i, atoms in enumerate(metals):
        atoms.calc = EMT()
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4)
        volumes, energies = [], []
        for scale in np.linspace(0.94, 1.06, 7):
            image = atoms.copy()
            image.set_cell(atoms.cell * scale ** (1 / 3), scale_atoms=True)
            image.calc = EMT()
            volumes.append(image.get_volume())
            energies.append(image.get_potential_energy())
        v0, e0, b0 = EosOfAse(volumes, energies, eos="birchmurnaghan").fit(warn=False)
        # the minima differ by 0.005 eV / B: 2e-3 in V at most, and the derivative times that in B
        assert found[i].v0 == pytest.approx(v0, rel=2e-3)
        assert found[i].e0 == pytest.approx(e0, abs=1e-3 * len(atoms))
        assert found[i].b0 == pytest.approx(b0 / GPA, rel=1e-2)
        assert found[i].residual < 1e-3 * len(atoms)
        pressure = found[i].pressure(np.array([found[i].v0, 0.98 * found[i].v0]))
        assert pressure[0] == pytest.approx(0, abs=1e-3)
        assert pressure[1] == pytest.approx(0.02 * found[i].b0, rel=0.1)


def test_shape_relaxes_at_each_volume():
    """A tetragonal cell of a cubic crystal has the equation of state of the cube."""
    cube = bulk("Cu", cubic=True)
    stretched = cube.copy()
    stretched.set_cell(cube.cell * [1.01, 1.01, 0.98], scale_atoms=True)
    engine, settings = Engine.of_ase(EMT()), EosSettings(volumes=5)
    (_, one), (_, other) = sorted(equations_of_state([cube, stretched], engine, settings))
    assert other.b0 == pytest.approx(one.b0, rel=1e-2)


def test_what_is_no_minimum_is_told_and_does_not_stop_the_others():
    strained = bulk("Cu", a=3.4)
    relaxed = bulk("Cu", a=3.5898)  # of EMT
    engine = Engine.of_ase(EMT())
    found = dict(equations_of_state([strained, relaxed], engine, EosSettings(volumes=5), Start(cell=True, relax=False)))
    assert isinstance(found[0], Failure)
    assert "is not at rest in its cell" in found[0].reason
    assert found[1].b0 == pytest.approx(134, rel=0.02)


def test_energies_without_a_minimum_are_refused():
    with pytest.raises(ValueError, match="no minimum among the volumes"):
        fit(np.linspace(10, 12, 7), np.linspace(-1, 0, 7))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "murnaghan"}, "unknown form 'murnaghan'"),
        ({"volumes": 4}, "at least 5 volumes, got 4"),
        ({"range": 0.6}, "between 0 and 0.5, got 0.6"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EosSettings(**settings)


def test_a_molecule_is_refused():
    with pytest.raises(ValueError, match="periodic along all three axes"):
        list(equations_of_state([molecule("H2O")], Engine.of_ase(EMT())))
