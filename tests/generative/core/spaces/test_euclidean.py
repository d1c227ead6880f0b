"""Vectors and centred positions: projections and straight lines."""

import numpy as np
import torch

from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean

MASK = torch.tensor([[True, True, True, False], [True, False, False, False], [False, False, False, False]])


def test_centred_projection_is_the_orthogonal_one():
    """Of n atoms it is the matrix 1 - 1/n on every coordinate; one atom goes to the origin, none stay none."""
    x = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    projected = CenteredPositions().project(x, MASK)
    np.testing.assert_allclose(projected[0, :3], (np.eye(3) - 1 / 3) @ x[0, :3].numpy(), atol=1e-14)
    assert projected[0, 3].eq(0).all()
    assert projected[1:].eq(0).all()
    torch.testing.assert_close(CenteredPositions().project(projected, MASK), projected)


def test_vectors_of_padding_are_zero():
    x = torch.ones(3, 4, 2, 2)
    assert torch.equal(Euclidean((2, 2)).project(x, MASK), x * MASK[:, :, None, None])
    assert torch.equal(Euclidean(()).project(torch.ones(3, 4), MASK), MASK.float())


def test_straight_lines():
    x, y = torch.randn(2, 3, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    space = Euclidean((3,))
    torch.testing.assert_close(space.exp(x, space.log(x, y)), y)
    np.testing.assert_allclose(space.distance(x, y), np.linalg.norm(y - x, axis=2))


def test_centred_noise_is_normal_noise_without_its_mean():
    """Of n points each coordinate has the variance 1 - 1/n, known to sqrt(2 / 4000) of it."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.stack([CenteredPositions().noise(3, generator) for _ in range(2000)])
    np.testing.assert_allclose(noise.mean(dim=1), 0, atol=1e-15)
    np.testing.assert_allclose(noise.square().mean(dim=(0, 1)), 2 / 3, atol=5 * np.sqrt(2 / 4000) * 2 / 3)
