"""Values beside ASE's, derivatives beside finite differences."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.geometry import get_angles_derivatives, get_dihedrals_derivatives

from atomsml.simulate.internals.coordinates import differences, internal_gradients, internal_values


def test_values_and_derivatives_are_those_of_ase():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 4, 3)))
    counts = torch.tensor([0, 2, 3, 4]).repeat(10)
    values, gradients = internal_gradients(points, counts)
    for each, count, value, gradient in zip(points, counts.tolist(), values.tolist(), gradients, strict=True):
        atoms = Atoms("H4", each.numpy())
        if count == 0:
            assert value == 0
            assert not gradient.any()
        elif count == 2:
            assert value == pytest.approx(atoms.get_distance(0, 1), abs=1e-12)
        elif count == 3:
            assert np.degrees(value) == pytest.approx(atoms.get_angle(0, 1, 2), abs=1e-9)
            x = atoms.positions
            expected = np.radians(get_angles_derivatives([x[0] - x[1]], [x[2] - x[1]])[0])
            np.testing.assert_allclose(gradient[:3], expected, rtol=1e-8, atol=1e-8)
        else:
            assert np.degrees(value) % 360 == pytest.approx(atoms.get_dihedral(0, 1, 2, 3), abs=1e-9)
            expected = np.radians(get_dihedrals_derivatives(*np.diff(atoms.positions, axis=0)[:, None])[0])
            np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-8)


def test_torsions_differ_by_the_short_way():
    values, targets = torch.tensor([3.1, 3.1, 0.2]), torch.tensor([-3.1, -3.1, 0.1])
    found = differences(values, targets, torch.tensor([4, 3, 4]))
    torch.testing.assert_close(found, torch.tensor([6.2 - 2 * np.pi, 6.2, 0.1]))


def test_planar_torsions_have_derivatives():
    """At 0 and 180 degrees, where a cosine has none."""
    points = torch.tensor([[[-1.0, 1, 0], [0, 0, 0], [1, 0, 0], [2, y, 0]] for y in (1.0, -1.0)], dtype=torch.float64)
    counts = torch.tensor([4, 4])
    _, gradients = internal_gradients(points, counts)
    step = 1e-6
    for k in range(4):
        moved = points.clone()
        moved[:, k, 2] += step
        back = points.clone()
        back[:, k, 2] -= step
        ahead = differences(internal_values(moved, counts), internal_values(back, counts), counts) / (2 * step)
        torch.testing.assert_close(gradients[:, k, 2], ahead, rtol=1e-6, atol=1e-8)
