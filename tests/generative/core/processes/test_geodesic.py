"""Processes on closed manifolds: their marginals, and samplers that recover what exact predictions come from."""

import math

import pytest
import torch

from atomsml.generative.core.fields import Field, corrupt, prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.geodesic import Geodesic, LinearHeat
from atomsml.generative.core.rotations import quaternion_to_matrix
from atomsml.generative.core.samplers import SAMPLERS
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.spaces import igso3
from atomsml.generative.core.spaces.euclidean import Euclidean
from atomsml.generative.core.spaces.so3 import SO3
from atomsml.generative.core.spaces.torus import Circle, Torus

SPACES = {"torus": Torus(), "circle": Circle((2,)), "SO3": SO3()}
SIGMA_MAX = {"torus": 0.6, "circle": 0.6 * 2 * math.pi, "SO3": 2.5}  # heat is even to 0.2 and to 0.6 %
WIDTH = {"torus": 0.05, "circle": 0.3, "SO3": 0.2}
WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
N = 1500
ERROR = 5 * math.sqrt(0.25 / N)  # of a share, statistics


def centers(space):
    """Three points (3, *shape), the same in every run."""
    return space.noise(3, torch.Generator().manual_seed(1))


def last(sampler, predict, fields, times, noise):
    *_, state = SAMPLERS[sampler]().sample(predict, fields, prior(fields, noise), times, noise)
    return state


def to_centers(space, x):
    """(3, samples, nodes, *tangent): the velocities that lead from x to each centre."""
    return torch.stack([space.log(x, center.expand_as(x)) for center in centers(space)])


def log_kernel(space, v, t):
    """log p_t(x_t | x_0) of the geodesic process, apart from what does not depend on x_0; v = log(x_t, x_0).

    Of uniform noise a fraction t of the way is gone: on a circle, to a uniform place within t L / 2; on SO(3) the angle
    has the density (1 - cos(w / t)) / (t pi), spread over (1 - cos w).
    """
    if isinstance(space, SO3):
        w = v.norm(dim=-1)
        log = torch.log((1 - torch.cos(w / t)) / (1 - torch.cos(w)))
        return torch.where(w < t * math.pi, log, -1e3 * w)
    return torch.where(v.abs() < t * space.period / 2, 0, -1e3 * v.abs()).sum(-1)  # outside by rounding: the nearest


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("name", SPACES)
def test_geodesic_recovers_points(name, sampler):
    """Data are three points with different weights; the exact prediction is the mean of the ways to them."""
    space = SPACES[name]
    fields, noise = {"x": Field(space, Geodesic())}, SampleNoise([4], [N], N, torch.float64)

    def predict(state, t):
        ways = to_centers(space, state["x"])
        share = (log_kernel(space, ways, t[0]) + WEIGHTS.log()[:, None, None]).softmax(0)[..., None]
        return {"x": space.exp(state["x"], (share * ways).sum(0))}

    x = last(sampler, predict, fields, time_grid(40, torch.float64), noise)["x"]
    distances = to_centers(space, x).norm(dim=-1)
    assert distances.min(0).values.max() < 1e-10
    found = torch.bincount(distances.argmin(0).flatten(), minlength=3) / N
    assert (found - WEIGHTS).abs().max() < ERROR + 0.5 / 40  # first order where the densities have edges


def log_density(space, v, variance):
    """Of Brownian motion, apart from a constant: images on a circle, IGSO(3)."""
    if isinstance(space, SO3):
        return igso3.log_density((v.square().sum(-1) + 1e-30).sqrt(), variance.sqrt())
    images = v[..., None] + space.period * torch.arange(-6, 7)
    return torch.logsumexp(-images.square() / (2 * variance), dim=-1).sum(-1)


@pytest.mark.parametrize(("sampler", "steps", "bias"), [("euler", 50, 0.05), ("heun", 25, 0.02)])
@pytest.mark.parametrize("name", SPACES)
def test_brownian_motion_recovers_a_mixture(name, sampler, steps, bias):
    """Heat from three points, which spreads on: p_t is a mixture of the variances width^2 + sigma^2.

    Its score by automatic differentiation along the tangent space. What comes out has the exact averages of functions
    that oscillate between -1 and 1, and the width of each point. A last step from t = 1 / steps^2 spoils nothing.
    """
    space, width = SPACES[name], WIDTH[name]
    process = LinearHeat(SIGMA_MAX[name])
    fields, noise = {"x": Field(space, process)}, SampleNoise([4], [N], N, torch.float64)

    def predict(state, t):
        x, variance = state["x"], width**2 + (process.sigma_max * t[0]) ** 2
        v = torch.zeros(*x.shape[:2], 2 if name == "circle" else 3, dtype=x.dtype, requires_grad=True)
        density = log_density(space, to_centers(space, space.exp(x, v)), variance) + WEIGHTS.log()[:, None, None]
        (score,) = torch.autograd.grad(density.logsumexp(0).sum(), v)
        return {"x": process.denoised(space, x, score, t)}

    x = last(sampler, predict, fields, time_grid(steps, torch.float64) ** 2, noise)["x"][0]
    shares = WEIGHTS[:, None]
    if name == "SO3":
        averages = quaternion_to_matrix(x).mean(0)
        expected = math.exp(-(width**2)) * (shares[..., None] * quaternion_to_matrix(centers(space))).sum(0)
    else:  # E[cos k q x], E[sin k q x]
        k = torch.tensor([1.0, 3.0], dtype=torch.float64)[:, None, None] * 2 * math.pi / space.period
        averages = torch.cat([f(k * x).mean(1) for f in (torch.cos, torch.sin)])
        damping = torch.exp(-((k * width) ** 2) / 2)[:, 0]
        expected = torch.cat([damping * (shares * f(k * centers(space))).sum(1) for f in (torch.cos, torch.sin)])
    assert (averages - expected).abs().max() < 4.5 * math.sqrt(0.5 / N) + bias
    squared = to_centers(space, x[None]).square().sum(-1).min(0).values  # of the nearest centre, width^2 per coordinate
    dimensions = 2 if name == "circle" else 3
    assert abs(squared.mean() / (dimensions * width**2) - 1) < 4.5 * math.sqrt(2 / (dimensions * N)) + bias


@pytest.mark.parametrize("process", [Geodesic(), LinearHeat(0.3)], ids=["geodesic", "brownian"])
@pytest.mark.parametrize("name", ["circle", "SO3"])
def test_corruption_moves_as_far_as_the_process_says(name, process):
    """E[cos] of the displacement on a circle, E[1 + 2 cos] of the angle of a rotation."""
    space, t = SPACES[name], torch.tensor([0.2, 0.6, 1.0], dtype=torch.float64)
    noise = SampleNoise([1, 2, 3], [N] * 3, N, torch.float64)
    data = space.project(centers(space)[None, :1].expand(3, N, *space.shape), noise.mask)
    moved = space.log(data, corrupt({"x": Field(space, process)}, {"x": data}, t, noise)["x"])
    if isinstance(process, Geodesic) and name == "circle":
        expected = torch.sinc(t)
    elif isinstance(process, Geodesic):  # the integral of (1 - cos w) / pi (1 + 2 cos(t w)) over 0 ... pi
        expected = 1 + 2 * torch.sinc(t) - torch.sinc(1 - t) - torch.sinc(1 + t)
    else:
        expected = torch.exp(-((0.3 * t) ** 2) / 2) if name == "circle" else 3 * torch.exp(-((0.3 * t) ** 2))
    values = torch.cos(moved)[..., 0] if name == "circle" else 1 + 2 * torch.cos(moved.norm(dim=-1))
    assert ((values.mean(1) - expected).abs() < 4.5 * values.std(1) / math.sqrt(N)).all()


def test_velocity_is_the_derivative_of_the_interpolant():
    for space in (Torus(), SO3()):
        noise = SampleNoise([5], [20], 20, torch.float64)
        data, end, h = noise(space), noise(space), 1e-6
        before, now, after = (
            Geodesic().interpolate(space, data, end, torch.tensor([t], dtype=torch.float64))
            for t in (0.7 - h, 0.7, 0.7 + h)
        )
        velocity = Geodesic().velocity(space, now, data, torch.tensor([0.7], dtype=torch.float64))
        torch.testing.assert_close(space.log(before, after) / (2 * h), velocity, rtol=0, atol=1e-8)


def test_what_has_no_heat_is_refused():
    with pytest.raises(ValueError, match="LinearHeat is not defined on Euclidean"):
        Field(Euclidean((3,)), LinearHeat(1.0))
