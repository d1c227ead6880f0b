"""Interaction energies beside Lennard-Jones atoms on paper, and beside GFN2-xTB and the calculator by hand with ASE."""

import ase
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.optimize import BFGS

from atomsml import AtomsMLCalculator
from atomsml.properties.bind.interaction import BindSettings, interactions
from atomsml.properties.bind.separation import Separations
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start

SIGMA, EPSILON = 3.4, 0.0104  # argon


@pytest.fixture(scope="module")
def calculator():
    return AtomsMLCalculator("organic-xtb", precision="float64")


@pytest.fixture(scope="module")
def engine(calculator):
    return Engine.of(calculator)


def waters() -> ase.Atoms:
    """Two with a hydrogen bond, not at their minimum."""
    other = molecule("H2O")
    other.rotate(35, "x")
    other.translate([0, 0.3, 2.9])
    return molecule("H2O") + other


def test_of_argon_is_that_on_paper():
    engine = Engine.of_ase(LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=1000 * SIGMA))
    dimer = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 3.9]])
    trimer = ase.Atoms("Ar3", [[0, 0, 0], [0, 0, 3.8], [0, 3.5, 1.9]])
    start = Start(fmax=1e-6)
    found = dict(interactions([dimer, trimer], engine, start=start))
    # at a force of 1e-6 eV/A the energy is 1e-12 / (2 * 0.05 eV/A^2) too high, in three directions at most
    assert found[0].energy == pytest.approx(-EPSILON, abs=1e-10)
    assert found[1].energy == pytest.approx(-3 * EPSILON, abs=1e-10)
    assert found[0].deformation == found[1].deformation == 0
    assert found[0].binding == found[0].energy
    [(_, curve)] = interactions([dimer], engine, BindSettings(curve=Separations(0.9, 2.0, 7)), start)
    ratio = (SIGMA / curve.curve.distances) ** 6
    assert curve.curve.energies == pytest.approx(4 * EPSILON * (ratio**2 - ratio), abs=1e-8)
    assert curve.curve.contacts == pytest.approx(curve.curve.distances)
    assert curve.curve.distances[0] == pytest.approx(0.9 * 2 ** (1 / 6) * SIGMA, abs=1e-4)
    assert not curve.curve.joined.any()


def test_of_waters_by_gfn2_as_by_hand_with_ase():
    calculator = pytest.importorskip("tblite.ase").TBLite(method="GFN2-xTB", accuracy=0.01, verbosity=0)
    [(_, found)] = interactions([waters()], Engine.of_ase(calculator), start=Start(fmax=0.002))

    def minimum(atoms: ase.Atoms) -> ase.Atoms:
        atoms.calc = calculator
        BFGS(atoms, logfile=None).run(fmax=0.002, steps=300)
        return atoms

    dimer = minimum(waters())
    energy, rigid, relaxed = dimer.get_potential_energy(), [], []
    for part in (dimer[:3], dimer[3:]):
        part.calc = calculator
        rigid.append(part.get_potential_energy())
        relaxed.append(minimum(part).get_potential_energy())
    # forces of 0.002 eV/A leave 4e-6 / (2 k) in each mode, whose softest have k of 0.05 eV/A^2: 4e-5 eV
    assert found.energy == pytest.approx(energy - sum(rigid), abs=5e-4)
    assert found.deformation == pytest.approx(sum(rigid) - sum(relaxed), abs=2e-4)
    assert found.binding == pytest.approx(energy - sum(relaxed), abs=1e-4)
    assert found.energy < found.binding < -0.15
    assert found.cutoff is None


def test_of_several_complexes_at_once_are_those_of_the_calculator(calculator, engine):
    methane = molecule("CH4")
    methane.translate([0.5, 0, 3.4])
    complexes = [waters(), methane + molecule("NH3"), waters()[[3, 0, 4, 1, 5, 2]]]
    curve = Separations(0.95, 1.5, 4, "centres")
    found = dict(interactions(complexes, engine, BindSettings(curve=curve), Start(relax=False)))
    assert sorted(found) == [0, 1, 2]
    for i, atoms in enumerate(complexes):
        alone = sum(calculator.get_potential_energy(atoms[list(each.indices)]) for each in found[i].fragments)
        assert found[i].energy == pytest.approx(calculator.get_potential_energy(atoms) - alone, abs=1e-8)
        assert found[i].deformation is None is found[i].binding
        direct = [calculator.get_potential_energy(ase.Atoms(f.numbers, f.positions)) for f in found[i].curve.frames]
        assert found[i].curve.energies == pytest.approx(np.array(direct) - alone, abs=1e-8)
    assert found[2].energy == pytest.approx(found[0].energy, abs=1e-8)


def test_nothing_is_seen_beyond_the_cutoff(engine):
    settings = BindSettings(curve=Separations(1.0, 4.0, 4))
    [(_, found)] = interactions([waters()], engine, settings, Start(relax=False))
    beyond = found.curve.contacts > found.cutoff
    assert found.cutoff == 6.0
    assert beyond.tolist() == [False, False, False, True]
    assert found.curve.energies[beyond] == pytest.approx(0, abs=1e-8)
    assert abs(found.curve.energies[~beyond]).min() > 1e-5


def test_cut_bonds_are_told():
    ethane, halves = molecule("C2H6"), ((0, 2, 3, 4), (1, 5, 6, 7))
    [(_, found)] = interactions([ethane], Engine.of_ase(EMT()), BindSettings(halves), Start(relax=False))
    assert found.cut == [(0, 1)]
    ethane.calc = EMT()
    parts = [ethane[list(half)] for half in halves]
    for part in parts:
        part.calc = EMT()
    rest = sum(part.get_potential_energy() for part in parts)
    assert found.energy == pytest.approx(ethane.get_potential_energy() - rest, abs=1e-9)


def test_bonds_that_a_curve_makes_are_told(engine):
    settings = BindSettings(curve=Separations(0.5, 1.0, 3))
    [(_, found)] = interactions([waters()], engine, settings, Start(relax=False))
    assert found.curve.joined.tolist() == [True, False, False]


def test_fragments_for_which_the_model_was_not_made_fail_alone(engine):
    """Dioxygen is a triplet, and halves of ethane are radicals, which organic-xtb does not know."""
    oxygen = ase.Atoms("O2", molecule("O2").positions)
    oxygen.translate([0, 0, 3.5])
    found = dict(interactions([molecule("H2O") + oxygen, waters()], engine, start=Start(relax=False)))
    assert "its fragment O2: its ground state has the spin multiplicity 3" in found[0].reason
    assert found[1].energy < -0.05
    halves = BindSettings(((0, 2, 3, 4), (1, 5, 6, 7)))
    [(_, radicals)] = interactions([molecule("C2H6")], engine, halves, Start(relax=False))
    assert "its fragment CH3: it has an odd number of electrons" in radicals.reason


def test_molecules_that_react_fail():
    """Two atoms of copper too far apart for a bond, which they make."""
    far = ase.Atoms("Cu2", [[0, 0, 0], [0, 0, 3.6]])
    [(_, found)] = interactions([far], Engine.of_ase(EMT()))
    assert isinstance(found, Failure)
    assert "they reacted" in found.reason


def test_atoms_in_one_place_fail_alone(engine):
    broken = waters()
    broken.positions[3] = broken.positions[0]
    named = BindSettings(((0, 1, 2), (3, 4, 5)))
    found = dict(interactions([broken, waters()], engine, named, Start(relax=False)))
    assert "no finite energy" in found[0].reason
    assert found[1].energy < -0.05
