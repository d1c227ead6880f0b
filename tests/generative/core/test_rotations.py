"""Quaternions and superpositions against scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from atomsml.generative.core.rotations import (
    matrix_to_quaternion,
    quaternion_exp,
    quaternion_inverse,
    quaternion_log,
    quaternion_multiply,
    quaternion_to_matrix,
    superposition,
)

RNG = np.random.default_rng(0)
AXES = np.concatenate([np.eye(3), -np.eye(3), RNG.normal(size=(20, 3))])
AXES /= np.linalg.norm(AXES, axis=1, keepdims=True)
ANGLES = np.concatenate([[0.0], np.logspace(-15, 0, 16), [2.0, 3.0], math.pi - np.logspace(-15, 0, 16), [math.pi]])
VECTORS = (ANGLES[:, None, None] * AXES).reshape(-1, 3)


def scipy_of(quaternions):
    return Rotation.from_quat(quaternions.numpy()[:, [1, 2, 3, 0]])


def test_exp_and_log_at_every_angle():
    quaternions = quaternion_exp(torch.from_numpy(VECTORS))
    expected = Rotation.from_rotvec(VECTORS)
    assert np.abs(scipy_of(quaternions).as_matrix() - expected.as_matrix()).max() < 1e-15 * 4
    assert np.abs(quaternion_to_matrix(quaternions).numpy() - expected.as_matrix()).max() < 1e-15 * 4
    back = quaternion_log(quaternions).numpy()
    below = np.linalg.norm(VECTORS, axis=1) < math.pi - 1e-14
    assert np.abs(back - VECTORS)[below].max() < 1e-14
    either = np.minimum(np.abs(back - VECTORS).max(1), np.abs(back + VECTORS).max(1))  # at pi the axis has no sign
    assert either.max() < 1e-14
    tiny = (np.linalg.norm(VECTORS, axis=1) < 1e-3) & (np.linalg.norm(VECTORS, axis=1) > 0)
    assert np.abs(back[tiny] - VECTORS[tiny]).max(1).max() < 1e-18  # relative accuracy: no cancellation
    assert torch.equal(quaternion_log(-quaternions[below]), quaternion_log(quaternions[below]))


def test_log_of_nothing_is_zero_and_has_a_gradient():
    """Padding is the quaternion zero; the identity is where formulas divide zero by zero."""
    assert quaternion_log(torch.zeros(2, 4)).eq(0).all()
    v = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda v: quaternion_log(quaternion_exp(v)), v)
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-15)


def test_products_and_matrices():
    a, b = Rotation.random(50, random_state=1), Rotation.random(50, random_state=2)
    first, second = (torch.from_numpy(r.as_quat()[:, [3, 0, 1, 2]]) for r in (a, b))
    assert np.allclose((scipy_of(quaternion_multiply(first, second)) * (a * b).inv()).magnitude(), 0, atol=1e-14)
    assert np.allclose((scipy_of(quaternion_inverse(first)) * a).magnitude(), 0, atol=1e-14)
    back = matrix_to_quaternion(
        torch.from_numpy(np.concatenate([a.as_matrix(), Rotation.from_rotvec(VECTORS).as_matrix()]))
    )
    expected = np.concatenate([a.as_quat(), Rotation.from_rotvec(VECTORS).as_quat()])[:, [3, 0, 1, 2]]
    assert np.minimum(np.abs(back.numpy() - expected).max(1), np.abs(back.numpy() + expected).max(1)).max() < 4e-15


@pytest.mark.parametrize("mirrored", [False, True])
def test_superposition_is_the_best_proper_rotation(mirrored):
    points, counted = RNG.normal(size=(4, 7, 3)), np.arange(7) < np.array([[7], [5], [4], [3]])
    turns = Rotation.random(4, random_state=3).as_matrix()
    targets = np.einsum("sij,snj->sni", turns, points) + RNG.normal(size=(4, 1, 3)) + 0.1 * RNG.normal(size=(4, 7, 3))
    if mirrored:
        targets[..., 0] *= -1
    rotation, shift = superposition(torch.from_numpy(points), torch.from_numpy(targets), torch.from_numpy(counted))
    assert np.allclose(np.linalg.det(rotation), 1)
    for s in range(4):
        x, y = points[s, counted[s]], targets[s, counted[s]]
        expected, _ = Rotation.align_vectors(y - y.mean(0), x - x.mean(0))
        assert np.allclose(rotation[s], expected.as_matrix(), atol=1e-9)
        assert np.allclose(shift[s, 0], y.mean(0) - expected.apply(x.mean(0)), atol=1e-9)


def test_superposition_of_few_points():
    """None: nothing moves. One: a shift. Two: exact, about any axis."""
    points, targets = torch.from_numpy(RNG.normal(size=(2, 3, 4, 3)))
    targets[2, 1] = targets[2, 0] + (points[2, 1] - points[2, 0]).norm() * torch.tensor(
        [0.6, 0.0, 0.8], dtype=torch.float64
    )
    counted = torch.arange(4) < torch.tensor([[0], [1], [2]])
    rotation, shift = superposition(points, targets, counted)
    moved = points @ rotation.transpose(1, 2) + shift
    torch.testing.assert_close(moved[0], points[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(moved[counted], targets[counted], rtol=0, atol=1e-13)
