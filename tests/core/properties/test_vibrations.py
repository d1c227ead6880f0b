"""Vibrations beside ASE's of the same calculator, and infrared spectra of GFN2-xTB's dipoles."""

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.vibrations import Infrared
from ase.vibrations import Vibrations as VibrationsOfAse
from tblite.ase import TBLite

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.task import Start
from atomsml.properties.vibrations import Vibrations, vibrations

MODEL = AtomsMLCalculator("organic-xtb", precision="float64")


def of_ase(found: Vibrations, calculator, folder, kind=VibrationsOfAse):
    atoms = found.atoms.copy()
    atoms.calc = calculator
    theirs = kind(atoms, name=str(folder / "vib"), delta=0.001)
    theirs.run()
    return theirs


@pytest.mark.parametrize("name", ["CH3CH2OH", "CO2"])
def test_frequencies_are_those_of_ase(name, tmp_path):
    """Which projects nothing: of all 3N the vibrations are left, once the 5 or 6 nearest to zero are out."""
    [(_, found)] = vibrations([molecule(name)], Engine.of(MODEL), Start(fmax=1e-4))
    every = of_ase(found, MODEL, tmp_path).get_frequencies()
    signed = np.sort(every.real - every.imag)
    theirs = np.sort(signed[np.argsort(np.abs(signed))[found.removed :]])
    # what is projected there mixes with what is left here, by (10 cm^-1)^2 / 200 cm^-1
    np.testing.assert_allclose(found.frequencies, theirs, atol=0.5)


def test_infrared_intensities_are_those_of_ase(tmp_path):
    calculator = TBLite(method="GFN2-xTB", verbosity=0, accuracy=0.01)
    engine = Engine.of_ase(calculator)
    [(_, found)] = vibrations([molecule("H2O")], engine, Start(fmax=1e-3))
    theirs = of_ase(found, calculator, tmp_path, Infrared)
    theirs.read()
    # ASE: (D/A)^2/u, of which one is 42.26 km/mol
    np.testing.assert_allclose(found.intensities, 42.256 * theirs.intensities[-3:], rtol=0.02, atol=0.5)
    assert found.intensities.max() > 50


def test_adsorbates_vibrate_on_what_is_held(tmp_path):
    slab = fcc111("Cu", (2, 2, 2), vacuum=8)
    slab.append("O")
    slab.positions[-1] = slab.positions[-2] + [0, 0, 1.4]
    slab.set_constraint(FixAtoms(np.arange(len(slab) - 1)))
    [(_, found)] = vibrations([slab], Engine.of_ase(EMT()), Start(fmax=1e-3))
    theirs = of_ase(found, EMT(), tmp_path).get_frequencies()
    np.testing.assert_allclose(found.frequencies, np.sort(theirs.real - theirs.imag), atol=0.1)
    assert found.removed == 0
    assert not found.modes[:, :-1].any()


@pytest.mark.parametrize(("name", "removed", "left"), [("O", 3, 0), ("N2", 5, 1), ("C2H2", 5, 7), ("NH3", 6, 6)])
def test_rigid_motions_are_removed(name, removed, left):
    [(_, found)] = vibrations([molecule(name)], Engine.of(MODEL))
    assert (found.removed, len(found.frequencies)) == (removed, left)
    masses = found.atoms.get_masses()
    np.testing.assert_allclose(np.einsum("a,mak->mk", masses, found.modes), 0, atol=1e-8)  # centres of mass rest
    np.testing.assert_allclose(np.square(found.modes).sum(axis=(1, 2)), 1)


def test_frequencies_turn_with_the_molecule_and_do_not_depend_on_others():
    turned = molecule("CH3OH")
    turned.rotate(50, (1, 2, 3))
    found = dict(vibrations([molecule("CH3OH"), molecule("C6H6"), turned], Engine.of(MODEL), Start(fmax=1e-4)))
    np.testing.assert_allclose(found[0].frequencies, found[2].frequencies, atol=0.5)


def test_saddle_points_are_imaginary():
    """Planar ammonia, as it is given."""
    ammonia = molecule("NH3")
    ammonia.positions[1:, 2] = ammonia.positions[0, 2]
    arms = ammonia.positions[1:] - ammonia.positions[0]
    ammonia.positions[1:] = ammonia.positions[0] + 1.0 * arms / np.linalg.norm(arms, axis=1, keepdims=True)
    [(_, found)] = vibrations([ammonia], Engine.of(MODEL), Start(fmax=2.0, relax=False))
    assert len(found.imaginary) == 1
    assert 500 < found.imaginary[0] < 1500
    umbrella = found.modes[0, :, 2]
    assert abs(umbrella[0]) > 0.1
    assert np.sign(umbrella[1:]).sum() == -3 * np.sign(umbrella[0])


def test_a_crystal_in_which_nothing_is_held_is_refused():
    with pytest.raises(ValueError, match="crystals have phonons"):
        next(vibrations([bulk("Cu")], Engine.of_ase(EMT())))
