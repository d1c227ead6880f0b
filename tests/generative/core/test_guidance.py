"""Guidance against the guided flow between two normal distributions, integrated by scipy, and its limits."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from atomsml.generative.core.fields import Field
from atomsml.generative.core.guidance import classifier_free
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.categorical import Masking
from atomsml.generative.core.processes.gaussian import LinearInterpolant
from atomsml.generative.core.processes.geodesic import Geodesic
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.samplers.heun import Heun
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.core.spaces.euclidean import Euclidean
from atomsml.generative.core.spaces.torus import Torus

LINEAR = {"x": Field(Euclidean((1,)), LinearInterpolant())}


def normal_data(mean, variance):
    """E[x_0 | x_t] of the linear interpolant."""

    def predict(state, t):
        t = t.reshape(-1, 1, 1)
        return {"x": mean + (1 - t) * variance / ((1 - t) ** 2 * variance + t**2) * (state["x"] - (1 - t) * mean)}

    return predict


def test_no_weight_and_weight_one_are_the_two_predictions():
    given, free = normal_data(1.0, 0.2), normal_data(0.0, 1.0)
    assert classifier_free(given, free, 1.0, LINEAR) is given
    assert classifier_free(given, free, 0.0, LINEAR) is free
    state, t = {"x": torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(2, 3, 1)}, torch.tensor([0.3, 0.9])
    for weight, expected in ((1 - 1e-12, given), (1e-12, free)):
        guided = classifier_free(given, free, weight, LINEAR)(state, t)["x"]
        torch.testing.assert_close(guided, expected(state, t)["x"], rtol=0, atol=1e-10)


def test_guided_flow_between_normal_distributions():
    """dx/dt = (x - guided data) / t of the linear interpolant, by an integrator of its own."""
    weight = 2.5

    def rate(t, x):
        given, free = (
            m + (1 - t) * v / ((1 - t) ** 2 * v + t * t) * (x - (1 - t) * m) for m, v in ((1.0, 0.2), (0.0, 1.0))
        )
        return (x - free - weight * (given - free)) / t

    starts = np.array([-1.5, 0.2, 2.0])
    expected = solve_ivp(rate, (1, 1e-6), starts, rtol=1e-9, atol=1e-9).y[:, -1]
    predict = classifier_free(normal_data(1.0, 0.2), normal_data(0.0, 1.0), weight, LINEAR)
    state, noise = {"x": torch.from_numpy(starts).reshape(1, 3, 1)}, SampleNoise([0], [3], 3, torch.float64)
    *_, end = Heun().sample(predict, LINEAR, state, time_grid(400, torch.float64), noise)
    np.testing.assert_allclose(end["x"].flatten(), expected, atol=1e-3)  # 2nd order: of the order of 1 / 400^2
    assert end["x"].mean() > 1.0  # beyond the condition


def test_periodic_data_are_guided_along_the_short_way():
    fields = {"x": Field(Torus(), Geodesic())}
    near, far = ({"x": torch.full((1, 1, 3), v)} for v in (0.05, 0.95))
    guided = classifier_free(lambda x, t: near, lambda x, t: far, 2.0, fields)({}, torch.ones(1))["x"]
    torch.testing.assert_close(guided, torch.full((1, 1, 3), 0.15))  # 0.95 + 2 * 0.1


def test_probabilities_are_guided_by_their_logarithms():
    fields = {"x": Field(Categorical(3), Masking())}
    given, free = torch.tensor([[[0.5, 0.5, 0.0]]]), torch.tensor([[[0.25, 0.5, 0.25]]])
    guided = classifier_free(lambda x, t: {"x": given}, lambda x, t: {"x": free}, 2.0, fields)({}, torch.ones(1))["x"]
    torch.testing.assert_close(guided, torch.tensor([[[2 / 3, 1 / 3, 0.0]]]))  # 0.5^2 / 0.25 : 0.5^2 / 0.5 : 0


def test_a_category_that_neither_allows_stays_excluded():
    fields = {"x": Field(Categorical(2), Masking())}
    sure = {"x": torch.tensor([[[1.0, 0.0]]])}
    guided = classifier_free(lambda x, t: sure, lambda x, t: sure, 3.0, fields)({}, torch.ones(1))["x"]
    torch.testing.assert_close(guided, sure["x"])


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_equal_predictions_are_not_changed(weight):
    given = normal_data(1.0, 0.2)
    state, t = {"x": torch.linspace(-2, 2, 4, dtype=torch.float64).reshape(1, 4, 1)}, torch.tensor([0.4])
    torch.testing.assert_close(classifier_free(given, given, weight, LINEAR)(state, t), given(state, t))
