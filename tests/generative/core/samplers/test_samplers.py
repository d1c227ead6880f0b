"""Every sampler with every Gaussian process recovers what the exact predictions come from; refusals; independence."""

import math

import pytest
import torch

from atomsml.generative.core.fields import Field, prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.categorical import Masking
from atomsml.generative.core.processes.gaussian import Karras, LinearInterpolant, PolynomialVP
from atomsml.generative.core.processes.geodesic import Geodesic
from atomsml.generative.core.samplers import SAMPLERS
from atomsml.generative.core.samplers.adaptive import Adaptive
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.samplers.heun import Heun
from atomsml.generative.core.samplers.predictor_corrector import PredictorCorrector
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean
from atomsml.generative.core.spaces.torus import Torus

PROCESSES = {"linear": LinearInterpolant(2.0), "polynomial": PolynomialVP(), "karras": Karras()}
STEPS = 80
CASES = {name: sampler() for name, sampler in SAMPLERS.items()} | {"heun with churn": Heun(churn=20, churn_noise=1.0)}


def times_of(process, steps):
    return process.times(steps, torch.float64) if isinstance(process, Karras) else time_grid(steps, torch.float64)


class Mixture:
    """Two normal distributions in the plane, well apart: 30 % around `means[0]`, 70 % around `means[1]`."""

    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-1.5, 0.5], [1.5, -0.5]], dtype=torch.float64)
    covariances = torch.tensor([[[0.16, 0.06], [0.06, 0.09]], [[0.09, -0.05], [-0.05, 0.2]]], dtype=torch.float64)

    def predictor(self, process):
        """E[x_0 | x_t] = sum_k w_k(x_t) (m_k + alpha C_k (alpha^2 C_k + sigma^2)^-1 (x_t - alpha m_k))."""
        variances, axes = torch.linalg.eigh(self.covariances)

        def predict(state, t):
            x = state["x"]
            alpha, sigma = (f(t)[:, None, None] for f in (process.alpha, process.sigma))
            logits, data = [], []
            for k in range(2):
                offset = (x - alpha * self.means[k]) @ axes[k]
                total = alpha**2 * variances[k] + sigma**2
                logits.append(self.weights[k].log() - (offset**2 / total + total.log()).sum(-1) / 2)
                data.append(self.means[k] + (alpha * variances[k] / total * offset) @ axes[k].T)
            share = torch.stack(logits, -1).softmax(-1)
            return {"x": share[..., :1] * data[0] + share[..., 1:] * data[1]}

        return predict


class Shapes:
    """Molecules that are one of two shapes, 40 % and 60 %, with thermal motion; sizes differ, centres do not."""

    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    width = 0.3

    def __init__(self, mask):
        generator = torch.Generator().manual_seed(5)
        shapes = torch.randn(2, mask.shape[1], 3, generator=generator, dtype=torch.float64)[:, None] * mask[:, :, None]
        counts = mask.sum(1)[:, None, None]
        self.shapes = (shapes - shapes.sum(2, keepdim=True) / counts) * mask[:, :, None]  # (2, samples, nodes, 3)
        self.free = 3 * (mask.sum(1) - 1)  # coordinates

    def share(self, x, alpha, sigma):
        """(2, samples) probability of each shape, in the space without the centre of mass."""
        squared = (x - alpha * self.shapes).square().sum((2, 3))
        total = (alpha * self.width) ** 2 + sigma**2
        return (self.weights.log()[:, None] - squared / (2 * total.reshape(-1))).softmax(0)

    def predictor(self, process):
        def predict(state, t):
            alpha, sigma = (f(t)[:, None, None] for f in (process.alpha, process.sigma))
            x = state["x"]
            gain = alpha * self.width**2 / ((alpha * self.width) ** 2 + sigma**2)
            data = self.shapes + gain * (x - alpha * self.shapes)
            return {"x": (self.share(x, alpha, sigma)[:, :, None, None] * data).sum(0)}

        return predict


def bias(sampler):
    """Largest relative error of a variance by finite steps: 10 / steps of first order, r^2 of the corrector."""
    first_order = 10 / STEPS
    return {Heun: 0.0, Adaptive: 0.03, PredictorCorrector: first_order + 0.16**2}.get(type(sampler), first_order)


def last(sampler, predict, fields, times, noise):
    *_, state = sampler.sample(predict, fields, prior(fields, noise), times, noise)
    return state


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("sampler", CASES.values(), ids=CASES)
def test_recovers_a_gaussian_mixture(sampler, process):
    mixture, fields = Mixture(), {"x": Field(Euclidean((2,)), process)}
    noise = SampleNoise(range(4), [500] * 4, 500, torch.float64)
    x = last(sampler, mixture.predictor(process), fields, times_of(process, STEPS), noise)["x"].reshape(-1, 2)
    first = x @ torch.tensor([3.0, -1.0], dtype=x.dtype) < 0  # the line half way between the means, 4 sigma from both
    share = first.double().mean()
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / len(x)) + 0.01
    for chosen, mean, covariance in zip((first, ~first), mixture.means, mixture.covariances, strict=True):
        variance, n = covariance.diag(), int(chosen.sum())
        outer = torch.outer(variance, variance)
        assert ((x[chosen].mean(0) - mean).abs() < 5 * (variance / n).sqrt() + 0.1 * bias(sampler)).all()
        error = (torch.cov(x[chosen].T) - covariance).abs()
        assert (error < 5 * ((outer + covariance**2) / n).sqrt() + bias(sampler) * outer.sqrt()).all()


@pytest.mark.parametrize("sampler", CASES.values(), ids=CASES)
def test_recovers_shapes_without_centre_of_mass(sampler):
    process = PROCESSES["linear"]
    sizes = [3, 5] * 100
    noise, fields = SampleNoise(range(200), sizes, 6, torch.float64), {"x": Field(CenteredPositions(), process)}
    shapes = Shapes(noise.mask)
    x = last(sampler, shapes.predictor(process), fields, times_of(process, STEPS), noise)["x"]
    assert x[~noise.mask].eq(0).all()
    assert x.sum(1).abs().max() < 1e-12
    nearest = (x - shapes.shapes).square().sum((2, 3)).argmin(0)
    share = nearest.double().mean()
    assert abs(share - 0.6) < 5 * math.sqrt(0.24 / len(x)) + 0.01
    rest = x - shapes.shapes[nearest, torch.arange(len(x))]
    free = int(shapes.free.sum())
    relative = rest.square().sum() / (free * shapes.width**2) - 1
    assert abs(relative) < 5 * math.sqrt(2 / free) + bias(sampler)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(name):
    """One molecule alone, and as the second of a batch with more padding: each has the same steps and noise."""
    process = PROCESSES["polynomial"]
    fields = {"x": Field(CenteredPositions(), process)}

    def predict(state, t):  # of one shape, whatever the batch
        gain = (process.alpha(t) * 0.3 / ((process.alpha(t) ** 2 * 0.3) + process.sigma(t) ** 2))[:, None, None]
        return {"x": torch.tanh(gain * state["x"])}

    times = time_grid(12, torch.float64)
    alone = last(SAMPLERS[name](), predict, fields, times, SampleNoise([11], [4], 4, torch.float64))["x"]
    noise = SampleNoise([3, 11, 8], [7, 4, 2], 9, torch.float64)
    batched = last(SAMPLERS[name](), predict, fields, times, noise)["x"]
    torch.testing.assert_close(batched[1, :4], alone[0], rtol=1e-10, atol=1e-10)


GEODESIC = {"cell": Field(Torus(), Geodesic())}
CATEGORICAL = {"element": Field(Categorical(3), Masking())}


@pytest.mark.parametrize(
    ("name", "fields"),
    [(name, GEODESIC) for name in ("ddpm", "ddim", "adaptive", "predictor-corrector")]
    + [(name, CATEGORICAL) for name in SAMPLERS if name != "euler"],
)
def test_refuses_what_it_does_not_allow(name, fields):
    (field_name,) = fields
    noise = SampleNoise([0], [2], 2)
    with pytest.raises(ValueError, match=rf"does not allow the process \w+ of the field '{field_name}'") as refused:
        SAMPLERS[name]().sample(lambda x, t: x, fields, prior(fields, noise), time_grid(4), noise)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("times", [[1.0], [0.0, 1.0], [1.0, 0.5, 0.5, 0.0]])
def test_refuses_times_that_do_not_fall(times):
    fields, noise = {"x": Field(CenteredPositions(), LinearInterpolant())}, SampleNoise([0], [2], 2)
    with pytest.raises(ValueError, match="times must fall"):
        SAMPLERS["euler"]().sample(lambda x, t: x, fields, prior(fields, noise), torch.tensor(times), noise)


def test_churn_needs_a_shared_gaussian_process():
    fields = {"x": Field(CenteredPositions(), LinearInterpolant()), "y": Field(Euclidean((2,)), LinearInterpolant(0.5))}
    noise = SampleNoise([0], [2], 2)
    with pytest.raises(ValueError, match="churn needs one Gaussian process"):
        last(Heun(churn=1.0), lambda x, t: x, fields, time_grid(4), noise)


def test_adaptive_says_so_when_a_model_is_broken():
    fields, noise = {"x": Field(CenteredPositions(), LinearInterpolant())}, SampleNoise([0], [2], 2)
    with pytest.raises(ValueError, match="not finite"):
        last(Adaptive(), lambda x, t: {"x": x["x"] * torch.nan}, fields, time_grid(4), noise)
