"""Saddle points of a surface on which they are known."""

import numpy as np
import pytest

from atomsml.properties.paths.motion import bofill
from atomsml.properties.paths.saddle import find_saddle
from tests.core.properties.paths.mueller_brown import MINIMA, SADDLES, FreeMotion, answered, gradient, hessian


@pytest.mark.parametrize(
    ("start", "name"),
    [((-0.9, 0.7), "high"), ((-0.7, 0.75), "high"), ((0.1, 0.4), "low"), ((0.3, 0.2), "low")],
    ids=["high-left", "high-right", "low-left", "low-right"],
)
def test_saddle_points_are_the_published_ones(start, name):
    found, asked = answered(find_saddle(np.array([*start, 0.05]), FreeMotion(), 1e-4, 50))
    place, height = SADDLES[name]
    assert found.point[:2] == pytest.approx(place, abs=1e-3)
    assert found.energy == pytest.approx(height, abs=1e-3)
    assert (np.linalg.eigvalsh(found.hessian) < 0).sum() == 1
    assert np.linalg.norm(gradient(found.point)) < 1e-4
    assert asked < 25


def test_climbs_out_of_a_minimum_along_its_lowest_mode():
    start = np.array([MINIMA[1][0] + 0.01, MINIMA[1][1] - 0.01, 0.0])
    found, _ = answered(find_saddle(start, FreeMotion(), 1e-4, 50))
    assert any(found.energy == pytest.approx(height, abs=1e-3) for _, height in SADDLES.values())


def test_the_direction_chooses_the_saddle_point():
    start = np.array([*MINIMA[1], 0.0])
    found = {}
    for name, (place, _) in SADDLES.items():
        direction = np.array([*place, 0.0]) - start
        found[name], _ = answered(find_saddle(start + 0.2 * direction, FreeMotion(), 1e-4, 100, direction))
    for name, (_, height) in SADDLES.items():
        assert found[name].energy == pytest.approx(height, abs=1e-3)


def test_a_search_that_has_too_few_steps_says_so():
    with pytest.raises(ValueError, match="no saddle point was found: after 2 steps a force is"):
        answered(find_saddle(np.array([*MINIMA[0], 0.0]) + 0.05, FreeMotion(), 1e-4, 2))


def test_updates_tell_the_change_of_the_gradient():
    """Along the step exactly; and a quadratic surface is left as it is."""
    point, step = np.array([-0.8, 0.6, 0.1]), np.array([0.05, -0.02, 0.03])
    change = gradient(point + step) - gradient(point)
    updated = bofill(hessian(point), step, change)
    assert updated @ step == pytest.approx(change, abs=1e-9)
    assert updated == pytest.approx(updated.T)
    assert bofill(updated, step, updated @ step) == pytest.approx(updated)
