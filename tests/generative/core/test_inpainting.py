"""Inpainting: what is known comes out exactly, the rest as the conditional distribution says."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from atomsml.generative.core.fields import Field, prior
from atomsml.generative.core.inpainting import Resampled, hold, restore
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.categorical import Masking, Uniform
from atomsml.generative.core.processes.gaussian import Karras, LinearInterpolant, PolynomialVP
from atomsml.generative.core.processes.geodesic import Geodesic, LinearHeat
from atomsml.generative.core.samplers import SAMPLERS
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.samplers.ddim import DDIM
from atomsml.generative.core.samplers.ddpm import DDPM
from atomsml.generative.core.samplers.euler import Euler
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean
from atomsml.generative.core.spaces.so3 import SO3
from atomsml.generative.core.spaces.torus import Circle, Torus

GAUSSIAN = {"linear": LinearInterpolant(), "polynomial": PolynomialVP(), "karras": Karras()}


def last(sampler, predict, fields, steps, noise):
    *_, state = sampler.sample(predict, fields, prior(fields, noise), time_grid(steps, noise.dtype), noise)
    return state


def molecule_of(positions):
    """An equivariant prediction that is nobody's truth: every atom is drawn to a distance of 1.5 from the others."""

    def predict(state, t):
        x = state["positions"]
        apart = x[:, :, None] - x[:, None]
        distance = (apart.square().sum(-1, keepdim=True) + 0.1).sqrt()
        there = (x.abs().sum(-1) > 0).to(x.dtype)
        pull = (apart * (1.5 - distance) / distance * there[:, None, :, None]).sum(2) / 6
        return {"positions": positions.project(x + pull, there > 0)}

    return predict


def scaffold(samples, nodes, seed=0):
    """The first four of up to eight atoms, not in a plane; and which they are."""
    points = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    known = torch.zeros(samples, nodes, 3, dtype=torch.float64)
    known[:, :4] = points
    return known, (torch.arange(nodes) < 4).expand(samples, nodes)


@pytest.mark.parametrize("process", GAUSSIAN.values(), ids=GAUSSIAN)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_scaffold_comes_out_exactly(name, process):
    """To the last bit after `restore`; and before it as a rigid body, up to the noise a process has left at t = 0."""
    positions = CenteredPositions()
    fields = {"positions": Field(positions, process)}
    noise = SampleNoise([1, 2, 3], [8, 6, 4], 9, torch.float64)
    known, mask = scaffold(3, 9)
    held = hold(molecule_of(positions), fields, {"positions": known}, {"positions": mask})
    for state in SAMPLERS[name]().sample(held, fields, prior(fields, noise), time_grid(10, torch.float64), noise):
        assert state["positions"].sum(1).abs().max() < 1e-10  # the centre stays where it was
    shape = torch.cdist(state["positions"][:, :4], state["positions"][:, :4])
    left = process.sigma(torch.zeros(1, dtype=torch.float64)).item()
    expected = torch.cdist(known[:, :4], known[:, :4])
    # a tangent at t = 1 / 10 misses the end of the path 1 - t^2 by 1 / 100; only a linear path ends in the data
    curved = name in ("euler", "heun") and process is GAUSSIAN["polynomial"]
    assert (shape - expected).abs().max() < 10 * left + 0.01 * curved * expected.max() + 1e-12
    end = restore(state, fields, {"positions": known}, {"positions": mask}, noise.mask)["positions"]
    assert torch.equal(end[mask], known[mask])
    assert end[~noise.mask].eq(0).all()
    rest = noise.mask & ~mask  # all moved together: distances between the others are as they were
    for s in range(2):
        torch.testing.assert_close(
            torch.cdist(end[s, rest[s]], end[s, rest[s]]),
            torch.cdist(state["positions"][s, rest[s]], state["positions"][s, rest[s]]),
        )


@pytest.mark.parametrize("sampler", [DDIM(), DDPM()], ids=["ddim", "ddpm"])
def test_result_does_not_depend_on_where_the_scaffold_stands(sampler):
    """The same seed gives the same molecule about it, and the mirrored scaffold, another one, keeps its hand."""
    positions = CenteredPositions()
    fields, sizes = {"positions": Field(positions, LinearInterpolant())}, [8, 6, 7]
    known, mask = scaffold(3, 8)
    turn = torch.from_numpy(Rotation.random(random_state=5).as_matrix())
    elsewhere = torch.where(mask[..., None], known @ turn.T + torch.tensor([30.0, -7.0, 2.0]), 0)

    def result(known):
        noise = SampleNoise([1, 2, 3], sizes, 8, torch.float64)
        given = {"positions": known}, {"positions": mask}
        return restore(
            last(sampler, hold(molecule_of(positions), fields, *given), fields, 20, noise), fields, *given, noise.mask
        )["positions"]

    first, second = result(known), result(elsewhere)
    nodes = SampleNoise([1, 2, 3], sizes, 8).mask[..., None]
    torch.testing.assert_close(second, (first @ turn.T + torch.tensor([30.0, -7.0, 2.0])) * nodes, rtol=0, atol=1e-9)
    mirrored = known * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(result(mirrored)[mask], mirrored[mask])


def correlated(process, correlation):
    """E[x_0 | x_t] of two standard normal numbers u, k with a correlation."""
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)

    def predict(state, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        total = alpha**2 * covariance + sigma**2 * torch.eye(2, dtype=torch.float64)
        gain = alpha * covariance @ torch.linalg.inv(total)
        u, k = state["u"], state["k"]
        return {"u": gain[0, 0] * u + gain[0, 1] * k, "k": gain[1, 0] * u + gain[1, 1] * k}

    return predict


def conditional(sampler, correlation, steps=25, nodes=8000, value=1.5):
    """Mean and variance of u where k is held at `value`."""
    process = GAUSSIAN["linear"]
    fields = {name: Field(Euclidean(()), process) for name in "uk"}
    noise = SampleNoise([1], [nodes], nodes, torch.float64)
    known, masks = {"k": torch.full((1, nodes), value, dtype=torch.float64)}, {"k": noise.mask}
    state = last(sampler, hold(correlated(process, correlation), fields, known, masks), fields, steps, noise)
    assert (state["k"] - value).abs().max() < 1e-14
    return state["u"].mean().item() / value, state["u"].var().item()


def test_replacement_pulls_too_weakly_and_resampling_mends_it():
    """The exact conditional distribution has the mean 0.8 z and the variance 0.36; statistics +- 0.01 and 0.03."""
    means, variances = zip(
        *[conditional(sampler, 0.8) for sampler in (DDIM(), DDPM(), Resampled(DDPM(), 4), Resampled(DDIM(), 16))],
        strict=True,
    )
    assert means == pytest.approx((0.34, 0.47, 0.70, 0.76), abs=0.02)  # as the module says
    assert variances[2] == pytest.approx(0.36, abs=0.1)


def test_limit_of_many_repeats_is_the_conditional_distribution():
    """Mean 0.5 z and variance 0.75; ten repeats are not many yet, and 60 steps of first order leave some 5 %."""
    mean, variance = conditional(Resampled(DDPM(), 10), 0.5, steps=60, nodes=3000)
    assert mean == pytest.approx(0.5, abs=0.06)
    assert variance == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize("sampler", [DDIM(), DDPM(), Resampled(DDPM(), 3)], ids=["ddim", "ddpm", "resampled"])
def test_what_is_independent_is_not_disturbed(sampler):
    """The variance of a normal number by 60 steps of first order, and 3000 draws."""
    mean, variance = conditional(sampler, 0.0, steps=60, nodes=3000)
    assert abs(mean) < 4.5 / 1.5 / 3000**0.5
    assert variance == pytest.approx(1, abs=4.5 * (2 / 3000) ** 0.5 + 5 / 60)


FIELDS = {
    "fractional": Field(Torus(), Geodesic()),
    "torsions": Field(Circle((2,)), LinearHeat(3.0)),
    "frames": Field(SO3(), Geodesic()),
    "masked": Field(Categorical(4), Masking()),
    "uniform": Field(Categorical(4), Uniform()),
    "charges": Field(Euclidean(()), LinearInterpolant()),
}


def test_every_field_can_be_held_in_part():
    """Half of the nodes are given; the other half obey a prediction that does not know of them."""
    noise, other = (SampleNoise([s, s + 1], [6, 4], 6, torch.float64) for s in (1, 5))
    known = {name: other(field.space) for name, field in FIELDS.items()}
    masks = {name: noise.mask & (torch.arange(6) % 2 == 0) for name in FIELDS}
    masked = {name: x * masks[name].reshape(2, 6, *(1 for _ in x.shape[2:])) for name, x in known.items()}

    def predict(state, t):
        third = torch.nn.functional.one_hot(torch.full((2, 6), 3), 4).double()
        return {name: third if isinstance(f.space, Categorical) else 0.5 * state[name] for name, f in FIELDS.items()}

    held = hold(predict, FIELDS, masked, masks)
    state = restore(last(Euler(), held, FIELDS, 10, noise), FIELDS, masked, masks, noise.mask)
    for name in FIELDS:
        assert torch.equal(state[name][masks[name]], known[name][masks[name]])
        free = noise.mask & ~masks[name]
        assert not torch.equal(state[name][free], known[name][free])
        assert state[name][~noise.mask].eq(0).all()
    assert state["masked"][noise.mask & ~masks["masked"]].eq(3).all()


@pytest.mark.parametrize("name", ["masked", "uniform", "fractional", "frames", "charges"])
def test_samplers_alone_end_in_what_is_known(name):
    """`restore` has nothing left to do but to undo rounding."""
    fields, noise = {name: FIELDS[name]}, SampleNoise([3], [5], 5, torch.float64)
    space = fields[name].space
    known = {name: space.noise(5, torch.Generator().manual_seed(9))[None]}

    def predict(state, t):
        return {name: torch.full((1, 5, 4), 0.25) if isinstance(space, Categorical) else state[name]}

    end = last(Euler(), hold(predict, fields, known, {name: noise.mask}), fields, 7, noise)[name]
    if isinstance(space, Categorical):
        assert torch.equal(end, known[name])
    elif isinstance(space, SO3 | Torus):
        assert space.distance(end, known[name]).max() < 1e-14
    else:
        torch.testing.assert_close(end, known[name], rtol=0, atol=1e-14)


def test_resampling_needs_a_gaussian_process():
    fields, noise = {"frames": FIELDS["frames"]}, SampleNoise([3], [5], 5, torch.float64)
    with pytest.raises(ValueError, match="the sampler Resampled does not allow the process Geodesic"):
        last(Resampled(Euler(), 2), lambda state, t: state, fields, 3, noise)
