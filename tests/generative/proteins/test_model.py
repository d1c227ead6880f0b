"""Generators of backbones: what is drawn depends on its request alone, motifs are exact, everything turns along."""

import math

import numpy as np
import pytest
import torch

from atomsml.generative import GENERATORS
from atomsml.generative.core.fields import prior
from atomsml.generative.core.modelfile import load_generator, save_generator
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.rotations import quaternion_multiply, quaternion_to_matrix
from atomsml.generative.core.samplers import find_sampler
from atomsml.generative.core.samplers.base import project
from atomsml.generative.core.spaces.so3 import SO3
from atomsml.generative.proteins.backbones import BackboneRequest, Backbones, Motif
from atomsml.generative.proteins.given import Given, given_motifs, random_motifs
from atomsml.generative.proteins.model import BackboneConfig, Predictor
from atomsml.generative.proteins.network import FrameNetworkConfig

TINY = FrameNetworkConfig(32, 16, 4, 8, 2, 2, 32, 2)
MODELS = ["backbone-flow", "backbone-diffusion"]
SAMPLERS = ["euler", "heun", "random-walk"]


def new_model(name, dtype=torch.float32):
    torch.manual_seed(0)
    return GENERATORS[name](BackboneConfig(TINY, longest=20)).to(dtype)


def drawn(model, requests, sampler="euler", steps=4, **how):
    *_, last = model.sample(requests, steps, sampler, **how)
    return last


def helix(residues, seed=0):
    """Frames along a helix, somewhere in space, in float64."""
    rng = torch.Generator().manual_seed(seed)
    turn = 100 / 180 * math.pi * torch.arange(residues, dtype=torch.float64)
    places = torch.stack([2.3 * torch.cos(turn), 2.3 * torch.sin(turn), 1.5 * torch.arange(residues).double()], dim=1)
    return SO3().noise(residues, rng), places + torch.tensor([30.0, -20.0, 10.0], dtype=torch.float64)


def motif(seed=0):
    quaternions, positions = helix(5, seed)
    return Motif((2, 3, 7, 8, 11), quaternions, positions)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_sample_depends_on_its_request_alone(name, sampler):
    """To rounding, whether alone or beside longer chains and those with a motif."""
    model = new_model(name, torch.float64)
    requests = [BackboneRequest(1, 9), BackboneRequest(2, 16, motif()), BackboneRequest(3, 12), BackboneRequest(1, 9)]
    together = drawn(model, requests, sampler)
    for row, request in enumerate(requests):
        alone = drawn(model, [request], sampler)
        size = request.length
        torch.testing.assert_close(together.positions[row, :size], alone.positions[0], rtol=0, atol=1e-8)
        turned = SO3().distance(together.quaternions[row : row + 1, :size], alone.quaternions)
        assert turned.max() < 1e-8
    assert together.positions[~together.mask].eq(0).all()
    assert together.quaternions[~together.mask].eq(0).all()
    assert together.positions[0].mean(0).abs().max() < 1e-12  # about the centre
    assert not torch.allclose(together.positions[0, :9], together.positions[2, :9])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", MODELS)
def test_motifs_are_exact(name, sampler):
    """In every state, not one digit is lost in the single precision of the network."""
    given = motif()
    for state in new_model(name).sample([BackboneRequest(5, 16, given), BackboneRequest(6, 10)], 12, sampler):
        assert torch.equal(state.positions[0, list(given.places)], given.positions)
        assert torch.equal(state.quaternions[0, list(given.places)], given.quaternions)
    others = [place for place in range(16) if place not in given.places]
    assert (state.positions[0, others] - given.positions.mean(0)).norm(dim=-1).max() < 60  # around it, not the origin


class TurnedNoise(SampleNoise):
    """All the noise of a stream, turned in space."""

    def __init__(self, turn, *args):
        super().__init__(*args)
        self.turn = turn

    def __call__(self, space, where=None):
        noise = super().__call__(space, where)
        if isinstance(space, SO3):
            return quaternion_multiply(self.turn, noise)
        return noise @ quaternion_to_matrix(self.turn)[0].T


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 3e-3)])
def test_the_whole_sampler_is_equivariant(name, sampler, dtype, tolerance):
    """Turned noise, and a turned and shifted motif, give the turned and shifted chain."""
    model = new_model(name, dtype)
    turn = SO3().noise(1, torch.Generator().manual_seed(3))
    rotation, shift = quaternion_to_matrix(turn)[0], torch.tensor([5.0, -7.0, 3.0], dtype=torch.float64)
    ends = []
    for moved in (False, True):
        part = motif()
        if moved:
            part = Motif(part.places, quaternion_multiply(turn, part.quaternions), part.positions @ rotation.T + shift)
        requests = [BackboneRequest(1, 16, part), BackboneRequest(2, 12)]
        given, origins = given_motifs(requests, dtype, torch.device("cpu"))
        fields = model.fields(given, drawing=True)
        plain = SampleNoise([1, 2], [16, 12], 16, dtype)
        noise = TurnedNoise(turn.to(dtype), [1, 2], [16, 12], 16, dtype) if moved else plain
        start = project(fields, prior(fields, noise), noise)
        predictor = Predictor(model, given)
        with torch.no_grad():
            times = torch.linspace(1, 0.01, 5, dtype=dtype)
            *_, state = find_sampler(sampler).sample(predictor, fields, start, times, noise)
        ends.append((state, origins))
    (still, _), (moved, origins) = ends
    torch.testing.assert_close(moved["positions"], still["positions"] @ rotation.to(dtype).T, rtol=0, atol=tolerance)
    expected = quaternion_multiply(turn.to(dtype), still["rotations"])
    assert SO3().distance(moved["rotations"], expected)[given.mask].max() < 10 * tolerance
    torch.testing.assert_close(origins[0], motif().positions.mean(0) @ rotation.T + shift)


@pytest.mark.parametrize("name", MODELS)
def test_loss_is_of_the_free_residues_and_has_finite_slopes(name):
    chains = [np.random.default_rng(seed).normal(size=(size, 3, 3)) * 3 for seed, size in enumerate((6, 12, 20, 9))]
    batch = Backbones.from_coordinates(chains)
    model = new_model(name)
    for seed in range(6):  # with and without a first guess
        losses = model.loss(batch, torch.Generator().manual_seed(seed))
        assert losses.shape == (4,)
        assert (losses > 0).all()
        losses.mean().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", MODELS)
def test_loss_of_the_truth_is_zero_and_ignores_what_is_known(name):
    model = new_model(name, torch.float64)
    quaternions, positions = helix(12)
    mask, known = torch.ones(2, 12, dtype=torch.bool), torch.zeros(2, 12, dtype=torch.bool)
    known[1, 3:6] = True
    clean = {"rotations": quaternions.expand(2, -1, -1), "positions": positions.expand(2, -1, -1) / 10}
    given = Given.of(clean, mask, known)
    assert given.frames["positions"][0].mean(0).abs().max() < 1e-12
    assert given.frames["positions"][1, 3:6].mean(0).abs().max() < 1e-12
    noise = SampleNoise([1, 2], [12, 12], 12, torch.float64)
    fields = model.fields(given, drawing=False)
    t = torch.tensor([0.05, 0.6], dtype=torch.float64)
    noisy = given.hold(
        {name: field.process.corrupt(field.space, given.frames[name], t, noise) for name, field in fields.items()}
    )
    assert torch.equal(noisy["positions"][1, 3:6], given.frames["positions"][1, 3:6])
    assert model.errors(given.frames, given.frames, noisy, t, mask & ~known).abs().max() < 1e-12
    wrong = {name: x.clone() for name, x in given.frames.items()}
    wrong["positions"][1, 3:6] += 1.0
    assert model.errors(wrong, given.frames, noisy, t, mask & ~known)[1].abs() < 1e-12
    wrong["positions"][:, 0] += 0.1
    assert (model.errors(wrong, given.frames, noisy, t, mask & ~known) > 1e-4).all()


def test_random_motifs_leave_something_to_find():
    mask = torch.arange(30) < torch.tensor([1, 2, 5, 30])[:, None].repeat(200, 1)
    known = random_motifs(mask, np.random.default_rng(0))
    assert not (known & ~mask).any()
    assert (mask & ~known).any(dim=1).all()
    shares = known.any(dim=1)[3::4].double().mean()
    assert abs(shares - 0.25) < 4.5 * math.sqrt(0.25 * 0.75 / 200)
    assert not known[0::4].any()


def test_lengths_are_those_of_the_training_set():
    model = new_model("backbone-flow")
    model.lengths.zero_()
    model.lengths[5], model.lengths[9] = 1, 3
    lengths = [request.length for request in model.requests(range(400))]
    assert set(lengths) == {5, 9}
    assert abs(lengths.count(9) / 400 - 0.75) < 4.5 * math.sqrt(0.25 * 0.75 / 400)
    assert model.describe() == {"backbones": 4, "shortest": 5, "longest": 9}


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back_from_files_and_start_from_each_other(name, tmp_path):
    model = new_model(name)
    save_generator(model, tmp_path / "model.safetensors", {})
    back = load_generator(tmp_path / "model.safetensors")
    request = [BackboneRequest(4, 12)]
    assert torch.equal(drawn(back, request).positions, drawn(model.eval(), request).positions)
    torch.manual_seed(1)
    other = GENERATORS["backbone-flow"](BackboneConfig(TINY, longest=10))
    other.start_from(model)
    assert all(torch.equal(a, b) for a, b in zip(other.network.parameters(), model.network.parameters(), strict=True))
    with pytest.raises(ValueError, match="with the same widths"):
        GENERATORS["backbone-flow"](BackboneConfig()).start_from(model)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sampler": "ddpm"}, "'ddpm' does not turn frames; take one of: euler, heun, random-walk"),
        ({"sampler": "adaptive"}, "does not turn frames"),
        ({"sampler": "euler", "noise_scale": 0.5}, "'euler' adds no noise that a noise scale could change"),
        ({"sampler": "random-walk", "noise_scale": -1.0}, "noise_scale must not be negative"),
        ({"sampler": "euler", "steps": 0}, "at least one step"),
    ],
)
def test_what_cannot_be_drawn_is_refused(how, message):
    with pytest.raises(ValueError, match=message):
        drawn(new_model("backbone-flow"), [BackboneRequest(0, 8)], **how)
