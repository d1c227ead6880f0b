"""Phonons beside ASE's of the same calculator, and beside those that others published for the same potential."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.phonons import Phonons as PhononsOfAse

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.phonons.harmonic import PhononSettings, check, phonons
from atomsml.properties.task import Failure, Start

THZ = units._e / units._hplanck / 1e12  # of 1 eV
# of silicon, Tersoff, Phys. Rev. B 39, 5566 (1989)
SILICON = TersoffParameters(
    m=3,
    gamma=1,
    lambda3=0,
    c=1.0039e5,
    d=16.217,
    h=-0.59825,
    n=0.78734,
    beta=1.1e-6,
    lambda2=1.7322,
    B=471.18,
    R=2.85,
    D=0.15,
    lambda1=2.4799,
    A=1830.8,
)


def test_of_metals_as_ase_finds_them(tmp_path):
    """At wave vectors that the supercell has, where nothing is interpolated; ASE moves each atom along x, y and z."""
    metals = [bulk("Cu"), bulk("Al"), bulk("Cu", "bcc", a=2.87)]
    found = dict(phonons(metals, Engine.of_ase(EMT()), PhononSettings(supercell=(3, 3, 3), mesh=10)))
    points = np.array([[1, 0, 0], [1, 1, 0], [1, 2, 0], [1, 1, 1], [2, 1, 1]]) / 3
    for i in range(3):
        theirs = PhononsOfAse(found[i].atoms.copy(), EMT(), (3, 3, 3), name=str(tmp_path / str(i)), delta=0.01)
        theirs.run()
        theirs.read(acoustic=True)
        found[i].phonopy.run_qpoints(points)
        # both leave out the fourth derivatives, 0.01^2 of it, along other directions
        assert found[i].phonopy.qpoints.frequencies == pytest.approx(
            theirs.band_structure(points, verbose=False) * THZ, abs=2e-3
        )


def test_of_silicon_as_published():
    """Bartok et al., Phys. Rev. X 8, 041048 (2018), with QUIP and displacements of 0.03 A."""
    engine = Engine.of_ase(Tersoff({("Si", "Si", "Si"): SILICON}))
    settings = PhononSettings(supercell=(4, 4, 4), distance=0.03, mesh=10)
    [(_, found)] = phonons([bulk("Si", a=5.432087811)], engine, settings, Start(fmax=0.01, cell=True, relax=False))
    at = {name: f for (name, _), (f, *_) in zip(found.bands.ends, found.bands.frequencies, strict=True)}
    assert at["Γ"] == pytest.approx([0, 0, 0, *[16.0736062] * 3], abs=3e-4)
    assert at["X"] == pytest.approx([*[6.89267] * 2, *[12.19557] * 2, *[14.89866] * 2], abs=3e-4)
    assert at["L"] == pytest.approx([4.66601, 4.66601, 11.31145, 13.16168, 15.43317, 15.43317], abs=3e-4)


@pytest.fixture(scope="module")
def engine():
    return Engine.of(AtomsMLCalculator("universal-small"))


def test_of_many_crystals_at_once_in_any_cell(engine):
    """A conventional cell has the phonons of the primitive one, and four times its energies."""
    salt = bulk("NaCl", "rocksalt", a=5.6)
    conventional = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    found = dict(phonons([salt, bulk("Si"), conventional], engine, PhononSettings(mesh=30)))
    assert len(found) == 3
    one, four = found[0], found[2]
    assert len(four.primitive) == len(one.primitive) == 2
    assert four.length >= 12
    for mine, other in zip(one.bands.frequencies, four.bands.frequencies, strict=True):
        assert mine == pytest.approx(other, abs=0.02)  # minima to 0.001 eV/A: 1e-3 of the volume of a soft crystal
    assert four.thermal.zero_point == pytest.approx(4 * one.thermal.zero_point, rel=1e-3)
    assert four.thermal.heat_capacity == pytest.approx(4 * one.thermal.heat_capacity, rel=2e-3, abs=1e-9)
    assert found[1].thermal.zero_point == pytest.approx(0.12, abs=0.03)  # silicon: 62 meV for each atom


def test_force_constants_are_symmetric(engine):
    [(_, found)] = phonons([bulk("NaCl", "rocksalt", a=5.6)], engine, PhononSettings(mesh=10))
    constants = found.phonopy.force_constants
    assert abs(constants.sum(axis=1)).max() < 1e-12  # a shift of everything costs nothing
    atoms = found.phonopy.primitive.p2s_map
    one, other = constants[0, atoms[1]], constants[1, atoms[0]]
    assert one == pytest.approx(other.T, abs=1e-12)
    assert constants[0, atoms[0]] == pytest.approx(np.eye(3) * constants[0, atoms[0], 0, 0], abs=1e-9)  # cubic


def test_residual_forces_do_not_matter():
    """Of a crystal that is given beside its minimum, and with a loose fmax accepted as one."""
    aside = bulk("CuAu", "cesiumchloride", a=3.07)
    aside.positions[1] += (0.02, 0, 0)
    settings = PhononSettings(supercell=(3, 3, 3), mesh=10)
    start = Start(fmax=5.0, relax=False)
    [(_, found)] = phonons([aside], Engine.of_ase(EMT()), settings, start)
    half = PhononSettings(supercell=(3, 3, 3), mesh=10, distance=0.005)
    [(_, finer)] = phonons([aside], Engine.of_ase(EMT()), half, start)
    forces = np.abs(found.atoms.get_forces()).max()
    assert forces > 0.05  # which would be force constants of 5 and 10 eV/A^2
    assert found.phonopy.force_constants == pytest.approx(finer.phonopy.force_constants, abs=0.02)


def test_imaginary_modes_are_named():
    [(_, found)] = phonons([bulk("Cu", "bcc", a=2.87)], Engine.of_ase(EMT()), PhononSettings(supercell=(4, 4, 4)))
    names = {each.where for each in found.imaginary}
    assert "at N" in names  # the shear of the Bain path's planes
    assert "at H" not in names
    assert found.mesh.unstable > 0.01
    for each in found.imaginary:
        found.phonopy.run_qpoints([each.point])
        assert each.frequencies[0] == pytest.approx(found.phonopy.qpoints.frequencies[0, 0], abs=1e-6)


def test_what_is_no_minimum_is_told_and_does_not_stop_the_others():
    aside = bulk("Cu", cubic=True)
    aside.positions[0] += 0.1
    settings, start = PhononSettings(supercell=(2, 2, 2), mesh=10), Start(fmax=0.01, relax=False)
    found = dict(phonons([aside, bulk("Cu", a=3.6)], Engine.of_ase(EMT()), settings, start))
    assert isinstance(found[0], Failure)
    assert "is no minimum of this model" in found[0].reason
    assert len(found[1].primitive) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"supercell": (2, 0, 2)}, "three numbers of at least 1"),
        ({"length": 0.0}, "length must be a positive number of A"),
        ({"distance": float("nan")}, "distance must be a positive number of A"),
        ({"mesh": -1.0}, "mesh must be a positive number of A"),
        ({"t_max": 0.0}, "t_max must be a positive number of K"),
        ({"t_step": 1e-3}, "more than 10,000 temperatures"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PhononSettings(**settings)


def test_an_atom_alone_in_a_large_cell_has_no_phonons():
    start = Start(relax=False, fmax=0.01)
    [(_, found)] = phonons([bulk("Cu", a=40.0)], Engine.of_ase(EMT()), PhononSettings(mesh=10), start)
    assert isinstance(found, Failure)
    assert "nothing holds its atoms" in found.reason


def test_molecules_flat_cells_and_overlapping_atoms_are_refused():
    with pytest.raises(ValueError, match="periodic along all three axes"):
        check(molecule("H2O"))
    flat = bulk("Cu")
    flat.cell[2] = flat.cell[1]
    with pytest.raises(ValueError, match="its cell has no volume"):
        check(flat)
    twice = bulk("NaCl", "rocksalt", a=5.6)
    twice.positions[1] = twice.positions[0]
    with pytest.raises(ValueError, match="no symmetry can be found"):
        check(twice)
