"""Transition states where symmetry says where they are, and what lies on both sides."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixBondLength, FixedPlane
from ase.optimize import BFGS

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.paths.neb import NebSettings, elastic_bands
from atomsml.properties.paths.ts import Guess, TransitionState, TsSettings, transition_states
from atomsml.properties.task import Failure, Start
from atomsml.properties.vibrations import vibrations
from tests.core.properties.paths.test_neb import hop

EMT_ENGINE = Engine.of_ase(EMT())


@pytest.fixture(scope="module")
def organic():
    return Engine.of(AtomsMLCalculator("organic-xtb", precision="float64"))


def test_an_adatom_hops_over_the_bridge():
    """Where ASE relaxes it with the adatom held in the plane of the bridge."""
    first, last = hop()
    [(_, path)] = elastic_bands([(first, last)], EMT_ENGINE, NebSettings(images=3, fmax=0.1))
    [(_, found)] = transition_states([Guess.of(path.images, path.energies)], EMT_ENGINE)
    bridge = path.images[2].copy()
    bridge.positions[-1, 0] = (path.images[0].positions[-1, 0] + path.images[-1].positions[-1, 0]) / 2
    bridge.set_constraint([*first.constraints, FixedPlane([8], [1, 0, 0])])
    bridge.calc = EMT()
    assert BFGS(bridge, logfile=None).run(fmax=0.001)
    assert found.energy == pytest.approx(bridge.get_potential_energy(), abs=1e-4)
    assert found.residual < 0.005
    assert (found.frequencies < 0).sum() == 1
    assert np.abs(found.mode[-1]).argmax() == 0  # along x
    assert found.is_expected
    for way in found.ways:
        assert way.depth(found.energy) == pytest.approx(found.energy - path.energies[0], abs=1e-3)


def test_ammonia_inverts_through_a_plane(organic):
    flat = molecule("NH3")
    flat.positions[0, 2] = flat.positions[1, 2] + 0.1
    [(_, found)] = transition_states([Guess(flat)], organic)
    nitrogen, *hydrogens = found.atoms.positions
    normal = np.cross(hydrogens[1] - hydrogens[0], hydrogens[2] - hydrogens[0])
    assert abs((nitrogen - hydrogens[0]) @ normal) / np.linalg.norm(normal) < 1e-3
    assert (found.frequencies < 0).sum() == 1
    heights = []
    for way in found.ways:
        atoms = way.minimum
        normal = np.cross(atoms.positions[2] - atoms.positions[1], atoms.positions[3] - atoms.positions[1])
        heights.append((atoms.positions[0] - atoms.positions[1]) @ normal / np.linalg.norm(normal))
    assert heights[0] == pytest.approx(-heights[1], abs=0.01)
    assert abs(heights[0]) > 0.3
    assert found.expected is None


def test_frequencies_are_those_of_vibrations(organic):
    flat = molecule("NH3")
    flat.positions[0, 2] = flat.positions[1, 2]
    [(_, found)] = transition_states([Guess(flat)], organic)
    [(_, theirs)] = vibrations([found.atoms], organic, Start(fmax=0.01, relax=False))
    assert found.frequencies == pytest.approx(theirs.frequencies, abs=1)


def test_higher_saddle_points_are_left(organic):
    """Ethane, eclipsed and with both CH3 flat, begins with more directions that lead down than one."""
    atoms = molecule("C2H6")
    for i in range(2, 8):
        atoms.positions[i, 2] = np.sign(atoms.positions[i, 2]) * (abs(atoms.positions[0, 2]) + 0.1)
    found = dict(transition_states([Guess(atoms)], organic, TsSettings(steps=100)))[0]
    assert isinstance(found, Failure) or (found.frequencies < 0).sum() == 1


def test_several_at_once_are_as_each_alone(organic):
    flat = molecule("NH3")
    flat.positions[0, 2] = flat.positions[1, 2] + 0.1
    other = flat.copy()
    other.rattle(0.05, seed=1)
    [one, two] = [found for _, found in sorted(transition_states([Guess(flat), Guess(other)], organic))]
    [(_, alone)] = transition_states([Guess(other)], organic)
    assert two.energy == pytest.approx(alone.energy, abs=1e-7)
    assert one.energy == pytest.approx(two.energy, abs=1e-4)


def test_other_minima_than_those_of_the_path_are_told():
    first, last = hop("Cu", "Cu", 1, (3, 2, 2))
    far = last.copy()
    far.positions[-1, 0] += first.cell[0, 0] / 3
    [(_, path)] = elastic_bands([(first, last)], EMT_ENGINE, NebSettings(images=3, fmax=0.1))
    images = [*path.images[:-1], far]
    [(_, found)] = transition_states([Guess.of(images, path.energies)], EMT_ENGINE)
    assert isinstance(found, TransitionState)
    assert found.is_expected is False
    assert min(found.expected) < 0.1 < max(found.expected)


def test_a_search_without_end_fails_and_the_others_do_not(organic):
    flat = molecule("NH3")
    flat.positions[0, 2] = flat.positions[1, 2]
    water = molecule("H2O")
    found = dict(transition_states([Guess(flat), Guess(water)], organic, TsSettings(steps=5)))
    assert isinstance(found[0], TransitionState)
    assert isinstance(found[1], Failure)


def test_what_cannot_move_is_refused():
    with pytest.raises(ValueError, match="nothing can move in it but the whole"):
        list(transition_states([Guess(Atoms("H"))], EMT_ENGINE))
    with pytest.raises(ValueError, match="not FixBondLength"):
        list(
            transition_states([Guess(Atoms("H2", [(0, 0, 0), (0, 0, 1)], constraint=FixBondLength(0, 1)))], EMT_ENGINE)
        )


def test_a_path_without_images_is_refused():
    with pytest.raises(ValueError, match="this has none"):
        Guess.of([molecule("H2O"), molecule("H2O")], [0.0, 0.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fmax": 0}, "fmax must be a positive number"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"irc_points": 0}, "irc_points"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TsSettings(**settings)
