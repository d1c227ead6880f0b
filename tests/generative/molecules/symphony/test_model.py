"""Symphony as a generator: it learns, samples depend on their seeds alone, and what is asked for is obeyed."""

from collections import Counter

import numpy as np
import pytest
import torch
from ase.build import molecule

from atomsml.generative.core.modelfile import load_generator, save_generator
from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.molecules.metrics.perception import perceive
from atomsml.generative.molecules.metrics.strict import strict
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.molecules import Scaffold
from atomsml.generative.molecules.sampling import sample_molecules
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.generative.molecules.symphony.model import Symphony, SymphonyConfig
from atomsml.generative.molecules.symphony.valence_state import ValenceState, closable

NAMES = ("CH3CH2OH", "C6H6", "CH3CHO", "C2H4", "HCN", "CH4")
METHYL = molecule("CH4")[:4]  # one open valence


def training_set() -> MoleculeSet:
    images = [molecule(name) for name in NAMES]
    return MoleculeSet.from_rows([a.numbers for a in images], [a.positions for a in images], [None] * len(images), {})


@pytest.fixture(scope="module")
def model() -> Symphony:
    """After a few steps of training, in which it learns how long bonds are: loss 10 becomes below 2."""
    torch.manual_seed(0)
    samples = training_set()
    fresh = Symphony(
        SymphonyConfig(**Symphony.measure(samples), channels=16, hidden=16, num_layers=2, readout_channels=32)
    )
    fresh.fit(samples)
    optimizer = torch.optim.Adam(fresh.parameters(), lr=0.05)
    batch, losses = samples.batch(np.arange(len(samples))), []
    for step in range(40):
        loss = fresh.loss(batch, torch.Generator().manual_seed(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < losses[0] - 5
    return fresh.eval().requires_grad_(False)


def draw(model, requests, sampler="masked", scaffold=None, at_once=None, steps=40):
    drawn = {}
    for progress in sample_molecules(model, requests, model.batches(requests, at_once), steps, sampler, scaffold):
        drawn |= progress.drawn
    return [drawn[i] for i in range(len(requests))]


def seeds(n):
    return [sample_seed(0, i) for i in range(n)]


def test_the_loss_does_not_change_when_molecules_turn(model, monkeypatch):
    monkeypatch.setattr("atomsml.generative.molecules.symphony.model.POSITION_NOISE", 0.0)  # which does not turn
    batch = training_set().batch(np.arange(3))
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))[0]
    turned = batch.replace(positions=batch.positions @ rotation.T)
    first, second = (model.loss(b, torch.Generator().manual_seed(0)) for b in (batch, turned))
    torch.testing.assert_close(first, second, rtol=0, atol=2e-3)  # the quadrature's 1e-3, and float32


def test_a_sample_depends_on_its_seed_alone(model):
    requests = draw_requests(model, seeds(6))
    together, alone = draw(model, requests), draw(model, requests[4:5], at_once=1)
    assert together[4].numbers.tolist() == alone[0].numbers.tolist()
    np.testing.assert_allclose(together[4].positions, alone[0].positions, rtol=0, atol=1e-3)  # float32 network


def test_with_masks_molecules_are_valid_even_of_a_network_that_knows_little(model):
    """Whatever was not given up within its steps; a plain draw of the same network is hardly ever valid."""
    requests = draw_requests(model, seeds(30))
    masked, plain = draw(model, requests), draw(model, requests, "plain")
    valid = [strict(images, list(perceive(images))).metrics["valid_uncharged"].value for images in (masked, plain)]
    assert valid[0] > 0.5
    assert valid[0] > valid[1] + 0.2


@pytest.mark.parametrize("sampler", ["masked", "plain"])
def test_formulas_and_numbers_of_atoms_are_obeyed(model, sampler):
    formula = {6: 2, 1: 6, 8: 1}
    for atoms in draw(model, draw_requests(model, seeds(6), formula=formula), sampler):
        assert atoms.numbers.tolist() == [6, 6, 8, 1, 1, 1, 1, 1, 1]
    for atoms in draw(model, draw_requests(model, seeds(6), num_atoms=7), sampler):
        assert len(atoms) == 7


@pytest.mark.parametrize("sampler", ["masked", "plain"])
def test_a_fragment_is_kept_to_the_last_bit_and_comes_first(model, sampler):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    fragment = Scaffold(tuple(METHYL.numbers.tolist()), torch.from_numpy(METHYL.positions @ turn + 100 / 3))
    for formula in (None, {6: 2, 1: 4, 8: 1}):
        grown = draw(model, draw_requests(model, seeds(5), formula=formula, scaffold=fragment), sampler, fragment)
        for atoms in grown:
            assert (atoms.positions[:4] == fragment.positions.numpy()).all()
            assert atoms.numbers[:4].tolist() == METHYL.numbers.tolist()
            assert formula is None or Counter(atoms.numbers.tolist()) == Counter(formula)
        assert any(len(atoms) > 4 for atoms in grown)


def test_what_cannot_be_is_one_line(model):
    whole = molecule("CH4")
    methane = Scaffold(tuple(whole.numbers.tolist()), torch.from_numpy(whole.positions))
    crowded = Scaffold((*methane.numbers, 1), torch.cat([methane.positions, torch.tensor([[0.0, 0.0, 0.9]]).double()]))
    with pytest.raises(ValueError, match="has no open valence"):
        draw(model, draw_requests(model, seeds(1), scaffold=methane), scaffold=methane)
    with pytest.raises(ValueError, match="C, has 5 neighbours, more than 4"):
        draw(model, draw_requests(model, seeds(1), scaffold=crowded), scaffold=crowded)
    with pytest.raises(ValueError, match="needs 11 steps"):
        draw(model, draw_requests(model, seeds(1), formula={6: 6, 1: 6}), steps=5)
    with pytest.raises(ValueError, match="no sampler 'ddpm'; it has masked, plain"):
        draw(model, draw_requests(model, seeds(1)), "ddpm")
    with pytest.raises(ValueError, match="learns no conditions"):
        SymphonyConfig((1, 6), conditions=("gap",))


def test_a_saved_model_draws_the_same(model, tmp_path):
    save_generator(model, tmp_path / "symphony.safetensors", {})
    again = load_generator(tmp_path / "symphony.safetensors")
    first, second = (draw(m, draw_requests(m, seeds(2))) for m in (model, again))
    assert all((a.positions == b.positions).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("numbers", "bonds", "hydrogens", "closes"),
    [
        ((6, 6), [(0, 1)], 6, True),  # ethane
        ((6, 6), [(0, 1)], 2, True),  # ethyne
        ((6, 6), [(0, 1)], 0, False),  # no quadruple bond
        ((6, 6), [(0, 1)], 5, False),  # a radical
        ((6,) * 6, [(i, (i + 1) % 6) for i in range(6)], 6, True),  # benzene
        ((6,) * 5, [(i, (i + 1) % 5) for i in range(5)], 5, False),  # cyclopentadienyl
        ((6, 6, 6, 6), [(0, 1), (0, 2), (0, 3)], 8, True),  # isobutene
        ((6, 6, 6, 6), [(0, 1), (0, 2), (0, 3)], 6, False),  # trimethylenemethane, a biradical
        ((16, 8, 8), [(0, 1), (0, 2)], 0, True),  # SO2, with four bonds of sulfur
        ((16, 8, 8), [(0, 1), (0, 2)], 2, True),  # and sulfoxylic acid
        ((16, 8), [(0, 1)], 1, False),
    ],
)
def test_which_valences_can_be_closed(numbers, bonds, hydrogens, closes):
    assert closable(numbers, bonds, hydrogens) is closes


def test_bonds_of_a_growing_molecule_are_those_perceived():
    image = molecule("CH3CHO")
    state = ValenceState()
    for number, position in zip(image.numbers.tolist(), image.positions, strict=True):
        state.add(number, position)
    (found,) = perceive([image])
    assert sorted(map(sorted, state.bonds)) == sorted(sorted(pair) for pair in found.bonds[:, :2].tolist())
    assert state.closes()
    assert not state.closes(1)


def test_no_place_is_admitted_beside_an_atom_without_open_valences():
    image = molecule("CH3CH2OH")
    carbon, hydrogen = 0, int(np.argmin(np.where(image.numbers == 1, image.get_distances(0, range(len(image))), 9)))
    state = ValenceState()
    for i in (i for i in range(len(image)) if i != hydrogen):
        state.add(int(image.numbers[i]), image.positions[i])
    assert state.open[carbon] == 1
    there = image.positions[hydrogen]
    assert state.admits(carbon, 1, there)
    assert not state.admits(carbon, 1, image.positions[1] + 0.1)  # bonded to the other carbon, which is full
    assert not state.admits(carbon, 1, image.positions[carbon] + 0.5 * (there - image.positions[carbon]))  # overlaps
    assert not state.admits(carbon, 1, image.positions[carbon] + 3 * (there - image.positions[carbon]))  # not bonded
