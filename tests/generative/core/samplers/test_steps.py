"""Single algorithms: orders of convergence, and the steps of the papers written out."""

import itertools
import math

import numpy as np
import pytest
import torch

from atomsml.generative.core.fields import Field, prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.gaussian import Karras, LinearInterpolant, PolynomialVP
from atomsml.generative.core.samplers.adaptive import Adaptive, BrownianPath
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.samplers.ddim import DDIM
from atomsml.generative.core.samplers.ddpm import DDPM
from atomsml.generative.core.samplers.euler import Euler
from atomsml.generative.core.samplers.heun import Heun
from atomsml.generative.core.samplers.predictor_corrector import PredictorCorrector
from atomsml.generative.core.spaces.euclidean import Euclidean

MEAN, VARIANCE = 0.7, 0.4


def fields_of(process):
    return {"x": Field(Euclidean((1,)), process)}


def gaussian_data(process):
    """E[x_0 | x_t] of normal data."""

    def predict(state, t):
        alpha, sigma = process.alpha(t)[:, None, None], process.sigma(t)[:, None, None]
        gain = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
        return {"x": MEAN + gain * (state["x"] - alpha * MEAN)}

    return predict


def exact(process, x, t, s):
    """The solution of the probability flow of normal data: quantiles stay quantiles."""
    width = [(process.alpha(u) ** 2 * VARIANCE + process.sigma(u) ** 2).sqrt() for u in (t, s)]
    return process.alpha(s) * MEAN + width[1] / width[0] * (x - process.alpha(t) * MEAN)


@pytest.mark.parametrize(
    ("process", "times"),
    [
        (LinearInterpolant(2.0), lambda steps: time_grid(steps, torch.float64)),
        (PolynomialVP(), lambda steps: 0.05 + 0.9 * time_grid(steps, torch.float64)),
        (Karras(sigma_max=5.0), lambda steps: Karras(sigma_max=5.0).times(steps, torch.float64)[:-1]),
    ],
    ids=["linear", "polynomial", "karras"],
)
@pytest.mark.parametrize(("sampler", "order"), [(Euler(), 1), (DDIM(), 1), (Heun(), 2)])
def test_order_of_convergence(process, times, sampler, order):
    noise = SampleNoise([0], [1], 1, torch.float64)
    errors = []
    for steps in (64, 128):
        grid = times(steps)
        start = torch.full((1, 1, 1), 1.3, dtype=torch.float64)
        *_, end = sampler.sample(gaussian_data(process), fields_of(process), {"x": start}, grid, noise)
        errors.append(abs(float(end["x"] - exact(process, start, grid[0], grid[-1]))))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_ddim_of_the_linear_interpolant_is_euler():
    process, ends = LinearInterpolant(2.0), []
    for sampler in (Euler(), DDIM()):
        noise = SampleNoise([4], [3], 3, torch.float64)
        start = prior(fields_of(process), noise)
        *_, end = sampler.sample(gaussian_data(process), fields_of(process), start, time_grid(7, torch.float64), noise)
        ends.append(end["x"])
    torch.testing.assert_close(*ends, rtol=0, atol=1e-13)


def draws(seed, shape=(3, 1)):
    """The numbers that a sample of three nodes gets, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=generator, dtype=torch.float64).numpy()


def test_heun_is_algorithm_2_of_karras():
    """arXiv:2206.00364, algorithm 2, with its times."""
    steps, churn, low, high, s_noise = 12, 6.0, 0.05, 50.0, 1.003
    sigma = (80 ** (1 / 7) + np.arange(steps) / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    t = np.append(sigma, 0)

    def denoiser(x, sigma):
        return MEAN + VARIANCE / (VARIANCE + sigma**2) * (x - MEAN)

    z = draws(3)
    x = 80 * next(z)
    expected = []
    for i in range(steps):
        gamma = min(churn / steps, math.sqrt(2) - 1) if low <= t[i] <= high else 0
        t_hat = t[i] + gamma * t[i]
        x_hat = x + math.sqrt(t_hat**2 - t[i] ** 2) * s_noise * next(z)
        d = (x_hat - denoiser(x_hat, t_hat)) / t_hat
        x = x_hat + (t[i + 1] - t_hat) * d
        if t[i + 1] != 0:
            d_prime = (x - denoiser(x, t[i + 1])) / t[i + 1]
            x = x_hat + (t[i + 1] - t_hat) * (d + d_prime) / 2
        expected.append(x)
    process, noise = Karras(), SampleNoise([3], [3], 3, torch.float64)
    start = prior(fields_of(process), noise)
    sampler = Heun(churn)  # the other numbers are its defaults
    states = sampler.sample(
        gaussian_data(process), fields_of(process), start, process.times(steps, torch.float64), noise
    )
    for state, x in zip(states, expected, strict=True):
        np.testing.assert_allclose(state["x"][0].numpy(), x, rtol=1e-9, atol=1e-9)


def test_ddpm_is_the_ancestral_step_of_ho_et_al():
    """arXiv:2006.11239, algorithm 2, with sigma^2 = the posterior variance of its equation 7."""
    process, steps = PolynomialVP(), 10
    grid = np.linspace(1, 0, steps + 1)
    alpha_bar = (1 - 2e-5) * (1 - grid**2) ** 2 + 1e-5
    z = draws(8)
    x = math.sqrt(1 - alpha_bar[0]) * next(z)
    for now, then in itertools.pairwise(alpha_bar):
        a = now / then
        x_0 = MEAN + math.sqrt(now) * VARIANCE / (now * VARIANCE + 1 - now) * (x - math.sqrt(now) * MEAN)
        eps = (x - math.sqrt(now) * x_0) / math.sqrt(1 - now)
        mean = (x - (1 - a) / math.sqrt(1 - now) * eps) / math.sqrt(a)
        x = mean + math.sqrt((1 - then) / (1 - now) * (1 - a)) * next(z)
    noise = SampleNoise([8], [3], 3, torch.float64)
    start = prior(fields_of(process), noise)
    *_, end = DDPM().sample(gaussian_data(process), fields_of(process), start, time_grid(steps, torch.float64), noise)
    np.testing.assert_allclose(end["x"][0].numpy(), x, rtol=1e-9)


def test_the_corrector_is_langevin_dynamics():
    """arXiv:2011.13456, algorithm 5, with sigma for the ratio of the norms; after one ancestral step as above."""
    process, r = LinearInterpolant(2.0), 0.2
    times = torch.tensor([0.8, 0.5], dtype=torch.float64)
    start = torch.tensor([[[0.3], [1.9], [-1.0]]], dtype=torch.float64)
    *_, predicted = DDPM().sample(
        gaussian_data(process), fields_of(process), {"x": start}, times, SampleNoise([8], [3], 3, torch.float64)
    )
    x, z = predicted["x"][0].numpy(), draws(8)
    next(z)
    variance = 0.5**2 * VARIANCE + 1.0**2  # of x_t at t = 0.5, where sigma = 1
    epsilon = 2 * (r * 1.0) ** 2
    expected = x - epsilon * (x - 0.5 * MEAN) / variance + math.sqrt(2 * epsilon) * next(z)
    *_, corrected = PredictorCorrector(r).sample(
        gaussian_data(process), fields_of(process), {"x": start}, times, SampleNoise([8], [3], 3, torch.float64)
    )
    np.testing.assert_allclose(corrected["x"][0].numpy(), expected, rtol=1e-12)


def test_adaptive_is_algorithm_1_of_gotta_go_fast():
    """arXiv:2105.14080, algorithm 1, for f and g of a variance-preserving process, as long as nothing is rejected."""
    rtol, atol, s = 0.5, 0.3, 1e-5

    def alpha_bar(t):
        return (1 - 2 * s) * (1 - t * t) ** 2 + s

    def f_and_g2(x, t):
        beta = (1 - 2 * s) * 4 * t * (1 - t * t) / alpha_bar(t)
        return -beta / 2 * x, beta

    def score(x, t):
        return -(x - math.sqrt(alpha_bar(t)) * MEAN) / (alpha_bar(t) * VARIANCE + 1 - alpha_bar(t))

    def drift(x, t):
        f, g2 = f_and_g2(x, t)
        return f - g2 * score(x, t)

    z, t, h, expected = draws(6), 0.7, 0.01, []
    x = before = next(z)
    while t > 0.6:
        w = math.sqrt(h) * next(z)
        low = x - h * drift(x, t) + math.sqrt(f_and_g2(x, t)[1]) * w
        other = x - h * drift(low, t - h) + math.sqrt(f_and_g2(x, t - h)[1]) * w
        high = (low + other) / 2
        delta = np.maximum(atol, rtol * np.maximum(abs(low), abs(before)))
        error = np.sqrt(np.mean(((low - high) / delta) ** 2))
        assert error <= 1
        x, before, t = high, low, t - h
        h = min(t, 0.1 * h * max(error, 1e-6) ** -0.9)
        expected.append(x)
    process, noise = PolynomialVP(), SampleNoise([6], [3], 3, torch.float64)
    start = {"x": noise(Euclidean((1,)))}
    times = torch.tensor([0.7, 0.0], dtype=torch.float64)
    states = Adaptive(rtol, atol, safety=0.1).sample(gaussian_data(process), fields_of(process), start, times, noise)
    assert len(expected) >= 3
    for state, x in zip(states, expected, strict=False):
        np.testing.assert_allclose(state["x"][0].numpy(), x, rtol=1e-9)


def test_a_divided_brownian_path_is_still_brownian():
    """A step of 1, cut to 0.6 and 0.3, one of 0.5 within what is known, 0.8 beyond: independent increments N(0, h)."""
    samples = 20_000
    generator = torch.Generator().manual_seed(0)

    def z():
        return {"x": torch.randn(samples, 1, generator=generator, dtype=torch.float64)}

    path = BrownianPath(z())
    increments = []
    for h, taken in [(1.0, False), (0.6, False), (0.3, True), (0.5, True), (0.8, True)]:
        length = torch.full((samples,), h, dtype=torch.float64)
        w = path.draw(length, z())
        path.advance(torch.full((samples,), taken), length, w)
        increments += [w["x"][:, 0]] if taken else []
    covariance = torch.cov(torch.stack(increments)).numpy()
    np.testing.assert_allclose(covariance, np.diag([0.3, 0.5, 0.8]), atol=5 * 0.8 * math.sqrt(2 / samples))
