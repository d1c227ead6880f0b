"""Fragments that are pulled apart: rigid, on a line, and not into each other."""

import numpy as np
import pytest
from ase.build import molecule

from atomsml.properties.bind.fragments import molecules, nearest
from atomsml.properties.bind.separation import Separations, separated


def stack():
    upper = molecule("C6H6")
    upper.rotate(20, "z")
    upper.translate([1.5, 0.4, 3.5])
    return molecule("C6H6") + upper


@pytest.mark.parametrize("along", ["nearest", "centres"])
def test_fragments_stay_as_they_are_and_move_as_far_as_asked(along):
    atoms = stack()
    fragments = molecules(atoms)
    points = list(separated(atoms, fragments, Separations(0.9, 2.0, 12, along)))
    before = atoms.get_all_distances()
    for scale, (distance, moved) in zip(np.linspace(0.9, 2.0, 12), points, strict=True):
        for part in fragments:
            inside = np.ix_(part, part)
            assert moved.get_all_distances()[inside] == pytest.approx(before[inside], abs=1e-12)
        if along == "centres":
            first, second = (moved[list(part)].get_center_of_mass() for part in fragments)
            assert distance == pytest.approx(np.linalg.norm(second - first))
            assert distance == pytest.approx(scale * np.linalg.norm([1.5, 0.4, 3.5]))
        else:
            assert distance == pytest.approx(scale * nearest(atoms, fragments[0])[2])
    contacts = [nearest(moved, fragments[0])[2] for _, moved in points]
    assert np.all(np.diff(contacts) > 0)
    assert points[1][0] == pytest.approx(points[0][0] * 10 / 9)


def test_hydrogen_bond_is_stretched_by_the_factor():
    other = molecule("H2O")
    other.translate([0, 0.3, 2.9])
    atoms = molecule("H2O") + other
    fragments = molecules(atoms)
    i, j, length = nearest(atoms, fragments[0])
    angle = atoms.get_angle(1, i, j)
    for scale, (distance, moved) in zip(
        [1.0, 1.4, 1.8], separated(atoms, fragments, Separations(1, 1.8, 3)), strict=True
    ):
        assert moved.get_distance(i, j) == pytest.approx(distance)
        assert distance == pytest.approx(scale * length)
        assert moved.get_angle(1, i, j) == pytest.approx(angle)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param((0.0, 2.0, 5), "from a smaller to a larger", id="zero"),
        pytest.param((2.0, 1.0, 5), "from a smaller to a larger", id="descending"),
        pytest.param((0.9, float("nan"), 5), "from a smaller to a larger", id="nan"),
        pytest.param((0.9, 2.0, 1), "between 2 and 1000 points", id="one-point"),
        pytest.param((0.9, 2.0, 5, "axis"), "unknown line 'axis'", id="line"),
    ],
)
def test_curves_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Separations(*settings)


def test_more_than_two_fragments_have_no_curve():
    third = molecule("H2O")
    third.translate([0, 0, 8])
    atoms = stack() + third
    with pytest.raises(ValueError, match="has 3; name two"):
        next(separated(atoms, molecules(atoms), Separations()))


def test_one_molecule_around_another_needs_the_nearest_atoms():
    """Helium in the middle of benzene."""
    atoms = molecule("C6H6")
    centre = atoms.get_center_of_mass()
    atoms.append("He")
    atoms.positions[-1] = centre
    fragments = molecules(atoms)
    with pytest.raises(ValueError, match="centres in one place"):
        next(separated(atoms, fragments, Separations(along="centres")))
    assert next(separated(atoms, fragments, Separations()))[0] == pytest.approx(0.9 * 1.395, abs=1e-2)
