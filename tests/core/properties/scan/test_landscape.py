"""Minima, maxima and passes of functions that have known ones."""

import numpy as np
import pytest

from atomsml.properties.scan.landscape import curve, grid


def test_of_a_threefold_torsion():
    """V = (1 - cos 3 phi) / 2 off the grid: three maxima of 1 and minima of 0."""
    values = np.arange(-180, 180, 10.0)
    minima, maxima = curve(values, 0.5 * (1 - np.cos(3 * np.radians(values - 4))), closed=True)
    assert [each.values[0] % 360 for each in minima] == pytest.approx([244, 4, 124], abs=0.3)
    assert [each.values[0] % 360 for each in maxima] == pytest.approx([184, 304, 64], abs=0.3)
    # the parabola through three points misses the cosine by its fourth order, (3 h)^4 / 48 at most
    assert [each.energy for each in minima] == pytest.approx([0, 0, 0], abs=np.radians(30) ** 4 / 48)
    assert [each.energy for each in maxima] == pytest.approx([1, 1, 1], abs=np.radians(30) ** 4 / 48)


def test_a_parabola_is_exact_and_open_ends_are_no_minima():
    values = np.linspace(1, 2, 8)
    minima, maxima = curve(values, (values - 1.4321) ** 2, closed=False)
    assert minima[0].values[0] == pytest.approx(1.4321, abs=1e-12)
    assert minima[0].energy == pytest.approx(0, abs=1e-12)
    assert maxima == []
    assert curve(values, values, closed=False) == ([], [])
    assert curve(values[:1], values[:1], closed=False) == ([], [])


def test_two_equal_points_have_their_minimum_between_them():
    minima, _ = curve(np.arange(4.0), np.array([3.0, 1.0, 1.0, 3.0]), closed=False)
    assert [each.values[0] for each in minima] == [1.5]


def test_passes_of_a_map():
    """V = -cos x - cos y + 0.2 cos(x / 2)...: a separable map has its passes where one coordinate is at its maximum."""
    axis = np.radians(np.arange(0, 360, 10.0))
    one, other = -np.cos(2 * axis) + 0.1 * np.cos(axis), -np.cos(2 * axis) + 0.3 * np.cos(axis)
    minima, passes = grid([np.degrees(axis)] * 2, one[:, None] + other[None, :], (True, True))
    assert [each.values for each in minima] == [(180, 180), (0, 180), (180, 0), (0, 0)]
    assert [each.energy for each in minima] == pytest.approx([-2.4, -2.2, -1.8, -1.6])
    heights = {frozenset(pair): each.energy for *pair, each in passes}
    assert len(passes) == 3
    assert heights[frozenset((0, 1))] == pytest.approx(one[9] + other.min(), abs=0.02)
    assert heights[frozenset((0, 2))] == pytest.approx(other[9] + one.min(), abs=0.02)


def test_noise_makes_no_minima():
    axis = np.radians(np.arange(0, 360, 15.0))
    energies = np.cos(axis)[:, None] + np.cos(axis)[None, :]
    noisy = energies + np.random.default_rng(0).uniform(-5e-4, 5e-4, energies.shape)
    minima, passes = grid([axis, axis], noisy, (True, True))
    assert len(minima) == 1
    assert passes == []
