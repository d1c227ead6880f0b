"""PFGM++ against scipy's distributions, its limit, and the electric field of a few points, whose lines lead to them."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from atomsml.generative.core.fields import Field, corrupt, prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.gaussian import Karras, LinearInterpolant
from atomsml.generative.core.processes.pfgm import PFGMPlusPlus
from atomsml.generative.core.samplers import SAMPLERS
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.samplers.euler import Euler
from atomsml.generative.core.samplers.heun import Heun
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean

N = 2000
SIZES = [2 + i % 4 for i in range(N)]  # atoms
FREE = np.array([3 * (n - 1) for n in SIZES])  # dimensions of the space without a centre
DEGREES = [1.0, 3.0, 128.0]
FIRST = 1e-3  # of what is right, one test in a thousand says that it is wrong; seeds are fixed


def noise_of(seed, sizes=SIZES, dtype=torch.float64):
    return SampleNoise([seed * N + i for i in range(len(sizes))], sizes, max(sizes), dtype)


def corrupted(process, sigma, seed=0):
    """(samples, nodes, 3) what noise has made of zeros."""
    noise = noise_of(seed)
    fields = {"x": Field(CenteredPositions(), process)}
    t = torch.full((N,), sigma / process.schedule.sigma_max, dtype=torch.float64)
    return corrupt(fields, {"x": torch.zeros(N, max(SIZES), 3, dtype=torch.float64)}, t, noise)["x"]


@pytest.mark.parametrize("dimensions", DEGREES)
def test_radius_is_that_of_the_paper(dimensions):
    """R1 = R^2 / (R^2 + r^2) has Beta(N / 2, D / 2), N being that of each sample, with r = sigma sqrt(D)."""
    sigma = 0.7
    squared = corrupted(PFGMPlusPlus(dimensions), sigma).square().sum((1, 2)).numpy()
    share = squared / (squared + sigma**2 * dimensions)
    for free in set(FREE.tolist()):
        assert stats.kstest(share[free == FREE], stats.beta(free / 2, dimensions / 2).cdf).pvalue > FIRST


@pytest.mark.parametrize("dimensions", DEGREES)
def test_a_coordinate_has_students_distribution(dimensions):
    """The margins of (|x|^2 + r^2)^(-(N + D) / 2); a coordinate of n atoms without a centre has the share 1 - 1 / n."""
    x, sizes = corrupted(PFGMPlusPlus(dimensions), 1.3, seed=1), np.array(SIZES)
    scaled = x[:, 0, 0].numpy() / (1.3 * np.sqrt(1 - 1 / sizes))
    assert stats.kstest(scaled, stats.t(dimensions).cdf).pvalue > FIRST


def test_directions_are_uniform():
    """The square of one of N coordinates of a unit vector has Beta(1 / 2, (N - 1) / 2), whatever the radius."""
    space, process = Euclidean((3,)), PFGMPlusPlus(2.0)
    x = process.prior(space, noise_of(2, [1] * N))[:, 0].numpy()
    radius = np.linalg.norm(x, axis=1)
    share = (x[:, 2] / radius) ** 2
    for half in (radius < np.median(radius), radius >= np.median(radius)):
        assert stats.kstest(share[half], stats.beta(0.5, 1).cdf).pvalue > FIRST


def test_the_limit_is_the_gaussian_process():
    space = CenteredPositions()
    gaussian = Karras().prior(space, noise_of(3))
    assert torch.equal(PFGMPlusPlus(math.inf).prior(space, noise_of(3)), gaussian)
    # chi^2 / D = 1 with a standard deviation of sqrt(2 / D), of which the square root has half; six of them at most
    dimensions = 1e6
    torch.testing.assert_close(
        PFGMPlusPlus(dimensions).prior(space, noise_of(3)), gaussian, rtol=6 * math.sqrt(0.5 / dimensions), atol=0
    )


def test_other_noise_levels_scale_the_state():
    """On straight lines x_t = (1 - t) x_0 + t e is Karras' state at sigma = t / (1 - t), times 1 - t."""
    lines, karras, space = PFGMPlusPlus(5.0, LinearInterpolant()), PFGMPlusPlus(5.0), CenteredPositions()
    data, t = noise_of(4)(space), torch.full((N,), 0.4, dtype=torch.float64)
    sigma = t / (1 - t) / karras.schedule.sigma_max
    expected = 0.6 * karras.corrupt(space, data, sigma, noise_of(5))
    torch.testing.assert_close(lines.corrupt(space, data, t, noise_of(5)), expected)


class Points:
    """Three molecules of three atoms, of 20, 30 and 50 %: E[x_0 | x_t] by Bayes' rule with the kernel as published."""

    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    sizes = (3,) * N
    free = 6

    def __init__(self):
        generator = torch.Generator().manual_seed(6)
        shapes = 1.5 * torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
        self.shapes = shapes - shapes.mean(1, keepdim=True)

    def predict(self, process):
        def predicted(state, t):
            squared = (state["x"] - self.shapes[:, None]).square().sum((2, 3))
            r = process.schedule.sigma(t).square() * process.dimensions
            logits = self.weights.log()[:, None] - (self.free + process.dimensions) / 2 * (squared + r).log()
            return {"x": torch.einsum("ks,knc->snc", logits.softmax(0), self.shapes)}

        return predicted

    def nearest(self, x):
        """(samples,) which point is, and how far."""
        found = (x - self.shapes[:, None]).square().sum((2, 3)).sqrt().min(0)
        return found.indices, found.values


@pytest.mark.parametrize("dimensions", DEGREES)
def test_lines_of_the_field_lead_to_the_points(dimensions):
    points, process = Points(), PFGMPlusPlus(dimensions)
    fields, noise = {"x": Field(CenteredPositions(), process)}, noise_of(7, points.sizes)
    times = process.schedule.times(40, torch.float64)
    *_, state = Heun().sample(points.predict(process), fields, prior(fields, noise), times, noise)
    which, distance = points.nearest(state["x"])
    # few lines end between points, where the field of the last state of noise, of 0.002, still is that of several
    assert (distance < 1e-3).double().mean() > 0.99
    shares = torch.bincount(which, minlength=3) / N
    # the prior is the kernel about the origin, not about the points: a shift of d changes what it gives by less than
    # d / (sqrt(2 pi) sigma_max), which is d times the height of the margin along it
    shifted = points.shapes.flatten(1).norm(dim=1).max() / (math.sqrt(2 * math.pi) * process.schedule.sigma_max)
    error = 5 * (points.weights * (1 - points.weights) / N).sqrt() + shifted
    assert ((shares - points.weights).abs() < error).all(), shares


@pytest.mark.parametrize("dimensions", DEGREES)
def test_the_flow_keeps_the_marginals(dimensions):
    """What starts at sigma = 2 as noise has made it is at sigma = 0.5 as noise makes it."""
    points, process = Points(), PFGMPlusPlus(dimensions)
    fields, space = {"x": Field(CenteredPositions(), process)}, CenteredPositions()
    noise, scale = noise_of(8, points.sizes), process.schedule.sigma_max
    data = points.shapes[torch.multinomial(points.weights, N, True, generator=torch.Generator().manual_seed(9))]
    times = torch.linspace(2, 0.5, 60, dtype=torch.float64) / scale
    start, end = (process.corrupt(space, data, time.expand(N), noise) for time in (times[0], times[-1]))
    *_, state = Heun().sample(points.predict(process), fields, {"x": start}, times, noise)
    (_, moved), (_, drawn) = points.nearest(state["x"]), points.nearest(end)
    assert stats.ks_2samp(moved.numpy(), drawn.numpy()).pvalue > FIRST
    assert stats.ks_2samp(points.nearest(start)[1].numpy(), drawn.numpy()).pvalue < 1e-9  # it had a way to go


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in ("euler", "heun")])
def test_samplers_that_need_normal_noise_are_refused(sampler):
    fields, noise = {"x": Field(Euclidean(()), PFGMPlusPlus())}, SampleNoise([1], [2], 2)
    with pytest.raises(ValueError, match=r"does not allow the process PFGMPlusPlus .* the sampler Euler takes every"):
        SAMPLERS[sampler]().sample(lambda x, t: x, fields, prior(fields, noise), time_grid(3), noise)


def test_churn_is_refused():
    fields, noise = {"x": Field(Euclidean(()), PFGMPlusPlus())}, SampleNoise([1], [2], 2)
    with pytest.raises(ValueError, match="churn needs one Gaussian process"):
        next(Heun(churn=1.0).sample(lambda x, t: x, fields, prior(fields, noise), time_grid(3), noise))


def test_a_sample_does_not_depend_on_its_batch():
    process, space = PFGMPlusPlus(2.0), CenteredPositions()
    fields = {"x": Field(space, process)}

    def last(noise):
        *_, state = Euler().sample(lambda x, t: {"x": 0 * x["x"]}, fields, prior(fields, noise), time_grid(3), noise)
        return process.corrupt(space, state["x"], torch.ones(len(noise)), noise)

    alone, batched = last(SampleNoise([11], [4], 4)), last(SampleNoise([3, 11], [7, 4], 9))
    torch.testing.assert_close(batched[1, :4], alone[0], rtol=1e-6, atol=1e-7)  # of the mean over more places


@pytest.mark.parametrize("dimensions", [0.0, -1.0, math.nan])
def test_no_further_dimensions_are_refused(dimensions):
    with pytest.raises(ValueError, match="needs a positive number D"):
        PFGMPlusPlus(dimensions)
