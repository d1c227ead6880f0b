"""Torus, circle, SO(3) and categories: noise, geodesics, and heat against densities summed here."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import softmax
from scipy.stats import kstest, norm

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.rotations import quaternion_to_matrix
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.core.spaces.so3 import SO3
from atomsml.generative.core.spaces.torus import Circle, Torus, wrapped_normal_score

SPACES = {"torus": Torus(), "circle": Circle((2,)), "angle": Circle(), "SO3": SO3()}


def draws(space, samples=2, nodes=50, seed=0):
    return SampleNoise(range(seed, seed + samples), [nodes] * samples, nodes, torch.float64)(space)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_geodesics(space):
    x, y = draws(space), draws(space, seed=7)
    v = space.log(x, y)
    assert space.distance(space.exp(x, v), y).max() < 1e-13
    assert space.log(x, x).abs().max() < 1e-14
    middle = space.exp(x, 0.5 * v)
    torch.testing.assert_close(space.distance(x, middle), space.distance(middle, y), rtol=0, atol=1e-13)
    torch.testing.assert_close(space.distance(x, y), 2 * space.distance(x, middle), rtol=0, atol=1e-13)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_padding_stays_zero(space):
    noise = SampleNoise([1, 2], [3, 5], 6)
    x = noise(space)
    moved = space.exp(x, space.log(x, noise(space)))
    assert space.project(moved, noise.mask)[~noise.mask].eq(0).all()
    assert not space.project(moved, noise.mask).isnan().any()
    torch.testing.assert_close(space.project(x, noise.mask), x, rtol=0, atol=1e-6)


def test_shortest_image():
    x, y = torch.tensor([[[0.95, 0.1, 0.3]]]), torch.tensor([[[0.05, 0.9, 0.4]]])
    torch.testing.assert_close(Torus().log(x, y), torch.tensor([[[0.1, -0.2, 0.1]]]))
    for angle in (-1e-20, 2 * math.pi, 7.0, -7.0):
        wrapped = Circle().exp(torch.zeros(1, 1), torch.full((1, 1), angle))
        assert 0 <= wrapped.item() < Circle().period
        assert math.isclose(math.cos(wrapped.item()), math.cos(angle), abs_tol=1e-6)


def test_rotations_as_scipy():
    x, y = draws(SO3(), 1), draws(SO3(), 1, seed=3)
    a, b = (Rotation.from_matrix(quaternion_to_matrix(q[0]).numpy()) for q in (x, y))
    assert np.allclose(SO3().log(x, y)[0], (a.inv() * b).as_rotvec(), atol=1e-12)
    assert np.allclose(SO3().distance(x, -y)[0], (a.inv() * b).magnitude(), atol=1e-12)


def test_noise_is_uniform():
    x = draws(SO3(), 1, 4000)
    angle = SO3().distance(x, x.roll(1, dims=1))[0].numpy()
    assert kstest(angle, lambda w: (w - np.sin(w)) / math.pi).pvalue > 1e-3
    assert kstest(draws(Circle(), 1, 4000)[0].numpy() / (2 * math.pi), "uniform").pvalue > 1e-3
    counts = torch.bincount(draws(Categorical(3), 1, 9000)[0])
    assert (counts - 3000).abs().max() < 4 * math.sqrt(9000 * 2 / 9)


@pytest.mark.parametrize("period", [1.0, 2 * math.pi])
@pytest.mark.parametrize("relative", [0.01, 0.1, 0.299999, 0.300001, 1.0, 5.0])
def test_wrapped_normal_score(relative, period):
    """sum_k p_k' / sum_k p_k with 401 images p_k, whose slopes are p_k' = -(d - k L) / sigma^2 p_k."""
    sigma = relative * period
    d = np.linspace(-0.5, 0.5, 101) * period
    shifted = d[:, None] - period * np.arange(-200, 201)
    expected = -(shifted * softmax(norm.logpdf(shifted, scale=sigma), axis=1)).sum(1) / sigma**2
    score = wrapped_normal_score(torch.from_numpy(d), torch.tensor([sigma], dtype=torch.float64), period)
    assert np.abs(score.numpy() - expected).max() < 1e-12 / sigma / relative


@pytest.mark.parametrize("space", [Torus(), Circle()], ids=["torus", "circle"])
@pytest.mark.parametrize("relative", [0.02, 0.3, 1.0])
def test_heat_on_a_circle(space, relative):
    source, sigma = draws(space, 1, 3000), torch.tensor([relative * space.period], dtype=torch.float64)
    moved = space.log(source, space.diffuse(source, draws(space, 1, 3000, 5), sigma)).flatten().numpy()
    images_of = space.period * np.arange(-50, 51)

    def cdf(d):
        ends = norm.cdf(np.stack([d, np.full_like(d, -space.period / 2)])[..., None] + images_of, scale=sigma.item())
        return (ends[0] - ends[1]).sum(-1)

    assert kstest(moved, cdf).pvalue > 1e-3


def test_heat_on_rotations():
    """Characters: E[1 + 2 cos w] = 3 exp(-s^2), E[1 + 2 cos w + 2 cos 2 w] = 5 exp(-3 s^2)."""
    source = draws(SO3(), 4, 5000)
    sigma = torch.tensor([0.01, 0.4, 1.0, 2.0], dtype=torch.float64)
    w = SO3().distance(source, SO3().diffuse(source, draws(SO3(), 4, 5000, 9), sigma))
    for degree, expected in ((1, 3 * torch.exp(-(sigma**2))), (2, 5 * torch.exp(-3 * sigma**2))):
        character = 1 + 2 * sum(torch.cos(j * w) for j in range(1, degree + 1))
        assert ((character.mean(1) - expected).abs() < 4.5 * character.std(1) / math.sqrt(5000)).all()


@pytest.mark.parametrize("space", [Torus(), SO3()], ids=["torus", "SO3"])
def test_score_is_zero_in_the_mean_and_one_over_the_variance(space):
    """E[score] = 0 and E[score . log(x, source)] = dimensions by partial integration, while the heat is narrow."""
    source, sigma = draws(space, 1, 4000), torch.tensor([0.05], dtype=torch.float64)
    x = space.diffuse(source, draws(space, 1, 4000, 3), sigma)
    score = space.heat_score(x, source, sigma)
    assert (score.mean((0, 1)).abs() < 4.5 * score.std((0, 1)) / math.sqrt(4000)).all()
    product = (score * space.log(x, source)).sum(-1)
    # on SO(3) the distance has a curvature: the mean is 1 + 2 (w / 2) cot(w / 2) = 3 - O(w^2 / 6)
    assert abs(product.mean() - 3) < 4.5 * product.std() / math.sqrt(4000) + 3 * 0.05**2 / 2
