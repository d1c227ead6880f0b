"""Frames, rotations with places: samplers recover a mixture whose exact prediction is Bayes' rule on its components."""

import math

import pytest
import torch

from atomsml.generative.core.fields import Field, prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.gaussian import LinearInterpolant, LinearVP
from atomsml.generative.core.processes.geodesic import Geodesic, LogarithmicHeat
from atomsml.generative.core.rotations import quaternion_to_matrix
from atomsml.generative.core.samplers.euler import Euler
from atomsml.generative.core.samplers.heun import Heun
from atomsml.generative.core.samplers.random_walk import RandomWalk
from atomsml.generative.core.spaces import igso3
from atomsml.generative.core.spaces.euclidean import Euclidean
from atomsml.generative.core.spaces.so3 import SO3

N = 1000
WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
ROTATIONS = SO3().noise(3, torch.Generator().manual_seed(1))
PLACES = torch.tensor([[1.0, 0.0, 0.5], [-1.0, 0.6, 0.0], [0.3, -1.2, 0.4]], dtype=torch.float64)
WIDTH = 0.3  # of places, and of the rotations of the diffusion

FLOW = {"rotations": Field(SO3(), Geodesic()), "positions": Field(Euclidean((3,)), LinearInterpolant())}
EARLY = {**FLOW, "rotations": Field(SO3(), Geodesic(10.0))}
DIFFUSION = {"rotations": Field(SO3(), LogarithmicHeat()), "positions": Field(Euclidean((3,)), LinearVP())}


def log_share(fields, state, t):
    """(3, samples, nodes): log of the probability of each component, given both parts of the state, at one time."""
    places, rotations = (fields[name].process for name in ("positions", "rotations"))
    variance = (places.alpha(t) * WIDTH) ** 2 + places.sigma(t) ** 2
    log = WEIGHTS.log()[:, None, None]
    log = log - (state["positions"] - places.alpha(t) * PLACES[:, None, None]).square().sum(-1) / (2 * variance)
    w = ways(state["rotations"]).norm(dim=-1)
    if isinstance(rotations, LogarithmicHeat):
        return log + igso3.log_density(w, (WIDTH**2 + rotations.sigma(t) ** 2).sqrt())
    # uniform noise, of whose angles a fraction is left: (1 - cos(w / sigma)) / pi spread over (1 - cos w)
    sigma = rotations.sigma(t)
    kernel = torch.log((1 - torch.cos(w / sigma)) / (1 - torch.cos(w)))
    return log + torch.where(w < sigma * math.pi, kernel, -1e3 * w / sigma)


def ways(x):
    return torch.stack([SO3().log(x, center.expand_as(x)) for center in ROTATIONS])


def predictor(fields):
    """Of the flow rotations are points, of the diffusion they are heat, which makes a score by differentiation."""

    def predict(state, times):
        t = times[0]
        places, rotations = (fields[name].process for name in ("positions", "rotations"))
        share = log_share(fields, state, t).softmax(0)[..., None]
        alpha, sigma = places.alpha(t), places.sigma(t)
        gain = alpha * WIDTH**2 / ((alpha * WIDTH) ** 2 + sigma**2)
        centers = PLACES[:, None, None]
        data = (share * (centers + gain * (state["positions"] - alpha * centers))).sum(0)
        x = state["rotations"]
        if isinstance(rotations, Geodesic):
            return {"rotations": SO3().exp(x, (share * ways(x)).sum(0)), "positions": data}
        v = torch.zeros_like(x[..., 1:], requires_grad=True)
        density = log_share(fields, {**state, "rotations": SO3().exp(x, v)}, t).logsumexp(0)
        (score,) = torch.autograd.grad(density.sum(), v)
        return {"rotations": rotations.denoised(SO3(), x, score, times), "positions": data}

    return predict


CASES = {
    "flow, Euler": (FLOW, Euler(), 60, 0.03),
    "flow, Heun": (FLOW, Heun(), 30, 0.03),
    "flow, random walk of places": (FLOW, RandomWalk(), 100, 0.03),
    "rotations early, Euler": (EARLY, Euler(), 100, 0.03),
    "rotations early, random walk of places": (EARLY, RandomWalk(), 100, 0.03),
    "diffusion, Euler": (DIFFUSION, Euler(), 100, 0.03),
    "diffusion, Heun": (DIFFUSION, Heun(), 50, 0.03),
    "diffusion, random walk": (DIFFUSION, RandomWalk(), 100, 0.03),
}


@pytest.mark.parametrize("case", CASES)
def test_mixture_of_frames(case):
    """Averages of R, x and R x of all nodes, which are independent: that of R x tells which place has which rotation.

    Drawing ends at t = 0.01 with the diffusion, where 0.02 of the heat of FrameDiff's schedule is above its least, 0.1.
    """
    fields, sampler, steps, bias = CASES[case]
    noise = SampleNoise([3], [N], N, torch.float64)
    last = 0.01 if fields is DIFFUSION else 0.0
    times = torch.linspace(1, last, steps + 1, dtype=torch.float64)
    *_, state = sampler.sample(predictor(fields), fields, prior(fields, noise), times, noise)
    matrices, places = quaternion_to_matrix(state["rotations"][0]), state["positions"][0]
    damping, alpha = 1.0, 1.0
    if fields is DIFFUSION:
        heat, vp = (fields[name].process for name in ("rotations", "positions"))
        t = torch.tensor(last, dtype=torch.float64)
        damping, alpha = torch.exp(-(WIDTH**2 + heat.sigma(t) ** 2)), vp.alpha(t)
    share, expected = WEIGHTS[:, None, None], damping * quaternion_to_matrix(ROTATIONS)
    pairs = [
        (matrices, (share * expected).sum(0)),
        (places, alpha * (share[:, 0] * PLACES).sum(0)),
        ((matrices @ places[..., None])[..., 0], alpha * (share * expected @ PLACES[..., None]).sum(0)[..., 0]),
    ]
    for found, mean in pairs:
        assert ((found.mean(0) - mean).abs() < 4.5 * found.std(0) / math.sqrt(N) + bias).all(), case
    spread = (places[:, None] / alpha - PLACES).square().sum(-1).min(1).values.mean() / 3
    assert abs(spread / WIDTH**2 - 1) < 0.15


def test_no_noise_goes_to_the_likeliest():
    """Euler-Maruyama's method without its noise narrows the distribution (Yim et al., arXiv:2302.02277, section 5)."""
    spreads = []
    for scale in (1.0, 0.5, 0.0):
        noise = SampleNoise([3], [N], N, torch.float64)
        times = torch.linspace(1, 0, 51, dtype=torch.float64)
        start = prior(DIFFUSION, noise)
        *_, state = RandomWalk(scale).sample(predictor(DIFFUSION), DIFFUSION, start, times, noise)
        offsets = ways(state["rotations"]).norm(dim=-1).min(0).values
        spreads.append(float(offsets.square().mean()))
    assert spreads[0] > 1.5 * spreads[1] > 3 * spreads[2]


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match="noise_scale must not be negative"):
        RandomWalk(-1.0)
