"""Categories: marginals, Bayes' rule with transition matrices, exact predictions recovered."""

import math

import pytest
import torch
from scipy.stats import chisquare

from atomsml.generative.core.fields import Field, prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.categorical import Masking, Uniform, draw
from atomsml.generative.core.processes.gaussian import LinearInterpolant
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.samplers.euler import Euler
from atomsml.generative.core.spaces.categorical import Categorical

K, N = 4, 20000
SPACE = Categorical(K)
DATA = torch.tensor([0.1, 0.0, 0.3, 0.6], dtype=torch.float64)
PROCESSES = {"masking": Masking(), "uniform": Uniform()}


def transition(process, ratio):
    """(K + 1, K + 1) probabilities of what a value has become when a fraction `ratio` of the signal is left."""
    lost = torch.zeros(K + 1, dtype=torch.float64)
    if isinstance(process, Masking):
        lost[K] = 1
    else:
        lost[:K] = 1 / K
    matrix = ratio * torch.eye(K + 1, dtype=torch.float64) + (1 - ratio) * lost
    matrix[K] = torch.eye(K + 1, dtype=torch.float64)[K] if isinstance(process, Masking) else 0
    return matrix


def posterior(process, t):
    """(K + 1, K) p(x_0 | x_t) by Bayes' rule."""
    joint = (DATA[:, None] * transition(process, 1 - t)[:K]).T
    return joint / joint.sum(1, keepdim=True).clamp_min(1e-300)


def last(predict, fields, steps, noise):
    *_, state = Euler().sample(predict, fields, prior(fields, noise), time_grid(steps, noise.dtype), noise)
    return state


def fits(values, probabilities):
    counts = torch.bincount(values.flatten(), minlength=K + 1)
    likely = probabilities > 0
    assert counts[~likely].sum() == 0
    return likely.sum() == 1 or chisquare(counts[likely], values.numel() * probabilities[likely]).pvalue > 1e-3


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_corruption(process):
    noise = SampleNoise(range(3), [N] * 3, N, torch.float64)
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    x = process.corrupt(SPACE, torch.full((3, N), 2), t, noise)
    for i in range(3):
        assert fits(x[i], transition(process, 1 - t[i])[2])


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("s", [0.0, 0.25])
def test_step_is_bayes_rule(process, s):
    """q(x_s | x_t) = sum over x_0 of p(x_0 | x_t) q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0), with matrices."""
    t = 0.6
    given = posterior(process, t)
    to_s, s_to_t = transition(process, 1 - s)[:K], transition(process, (1 - t) / (1 - s))
    to_t = to_s @ s_to_t
    for x_t in range(K + 1) if isinstance(process, Masking) else range(K):
        reached = given[x_t] / to_t[:, x_t].clamp_min(1e-300) * (to_t[:, x_t] > 0)
        expected = (reached[:, None] * to_s * s_to_t[:, x_t]).sum(0)
        if expected.sum() == 0:  # a category that the data do not have, undecided processes never show it
            continue
        torch.testing.assert_close(expected.sum().item(), 1.0)
        noise = SampleNoise([x_t], [N], N, torch.float64)
        t_, s_ = (torch.tensor([u], dtype=torch.float64) for u in (t, s))
        stepped = process.step(SPACE, torch.full((1, N), x_t), given[x_t].expand(1, N, K), t_, s_, noise)
        assert fits(stepped, expected)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("steps", [1, 3])
def test_few_steps_recover_one_node_exactly(process, steps):
    fields, noise = {"x": Field(SPACE, process)}, SampleNoise([7], [N], N, torch.float64)
    state = last(lambda state, t: {"x": posterior(process, t[0])[state["x"]]}, fields, steps, noise)
    assert fits(state["x"], torch.cat([DATA, DATA.new_zeros(1)]))


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_two_nodes_that_depend_on_each_other(process):
    """Nodes are drawn independently in a step: the error of the joint distribution is of order 1 / steps."""
    joint = torch.tensor([[0.4, 0.05], [0.05, 0.5]], dtype=torch.float64)
    space, pairs, steps = Categorical(2), 5000, 40
    fields, noise = {"x": Field(space, process)}, SampleNoise([3], [2 * pairs], 2 * pairs, torch.float64)

    def predict(state, t):
        """p(x_0 of either node | x_t of both)."""
        keep = 1 - t[0]
        if isinstance(process, Masking):
            rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        else:
            rows = keep * torch.eye(2, dtype=torch.float64) + (1 - keep) / 2
        likelihood = rows[state["x"].reshape(pairs, 2)]  # (pairs, nodes, x_0)
        both = joint * likelihood[:, 0, :, None] * likelihood[:, 1, None, :]
        both = both / both.sum((1, 2), keepdim=True)
        return {"x": torch.stack([both.sum(2), both.sum(1)], dim=1).reshape(1, 2 * pairs, 2)}

    x = last(predict, fields, steps, noise)["x"].reshape(pairs, 2)
    found = torch.bincount(2 * x[:, 0] + x[:, 1], minlength=4) / pairs
    assert (found - joint.flatten()).abs().max() < 4.5 * math.sqrt(0.25 / pairs) + 0.5 / steps


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_a_sample_does_not_depend_on_its_batch(process):
    fields = {"x": Field(SPACE, process)}

    def result(noise):
        return last(lambda state, t: {"x": DATA.expand(len(t), noise.nodes, K)}, fields, 5, noise)["x"]

    alone, batched = result(SampleNoise([11], [4], 4)), result(SampleNoise([3, 11], [7, 4], 9))
    assert torch.equal(batched[1, :4], alone[0])
    assert batched[1, 4:].eq(0).all()


def test_what_is_decided_stays_and_all_is_decided_in_the_end():
    fields, noise = {"x": Field(SPACE, Masking())}, SampleNoise([2], [500], 500)
    state = prior(fields, noise)
    assert state["x"].eq(K).all()
    for after in Euler().sample(lambda state, t: {"x": DATA.expand(1, 500, K)}, fields, state, time_grid(8), noise):
        decided = state["x"] < K
        assert torch.equal(after["x"][decided], state["x"][decided])
        state = after
    assert state["x"].lt(K).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_impossible_is_never_drawn(dtype):
    weights = torch.tensor([0.0, 0.3, 0.0, 1.1, 0.0], dtype=dtype)
    uniform = torch.tensor([0.0, 0.1, 0.5, 1 - 1e-7, 1.0], dtype=dtype)
    assert draw(weights.expand(1, 5, 5), uniform[None])[0].tolist() == [1, 1, 3, 3, 3]


def test_categories_have_no_straight_lines():
    with pytest.raises(ValueError, match="LinearInterpolant is not defined on Categorical"):
        Field(SPACE, LinearInterpolant())
