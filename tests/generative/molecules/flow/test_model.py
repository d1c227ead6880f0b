"""Flow matching of molecules: what is asked for is obeyed, and the loss is one that can be learned."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.stats import f, kstest, special_ortho_group

from atomsml.generative.core.modelfile import save_generator
from atomsml.generative.molecules.compositions import parse_formula
from atomsml.generative.molecules.flow.model import MoleculeFlow, MoleculeFlowConfig, NetworkConfig
from atomsml.generative.molecules.flow.tasks import UNIT
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.molecules import Molecules, Scaffold
from atomsml.generative.molecules.set import MoleculeSet

NAMES = ("CH3CH2OH", "CH3OCH3", "CH3CONH2", "C6H6", "CH4", "HCN", "CO2")
TINY = NetworkConfig(channels=16, pair_channels=16, vectors=4, hidden=32, num_layers=2)
ELEMENTS = (1, 6, 7, 8)


def training_set() -> MoleculeSet:
    images = [molecule(name) for name in NAMES]
    bonds = []
    for atoms in images:
        distances = atoms.get_all_distances()
        bonds.append(np.array([(i, j, 1) for i, j in zip(*np.where(distances < 1.65), strict=True) if i < j]))
    dipoles = {"dipole": np.linspace(0.0, 3.0, len(images))}
    return MoleculeSet.from_rows([a.numbers for a in images], [a.positions for a in images], bonds, dipoles)


@pytest.fixture(scope="module")
def model() -> MoleculeFlow:
    molecules = training_set()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MoleculeFlowConfig(
            conditions=("dipole",), **MoleculeFlow.measure(molecules), skeleton=TINY, hydrogens=TINY
        )
        model = MoleculeFlow(config)
    model.fit(molecules)
    return model.double()


def last(model: MoleculeFlow, requests: list, **options: object) -> Molecules:  # type: ignore[type-arg]
    *_, result = model.sample(requests, **{"steps": 4, **options})  # type: ignore[arg-type]
    return result


def test_compositions_are_those_of_the_training_set(model: MoleculeFlow) -> None:
    result = last(model, draw_requests(model, range(60)))
    found = Counter(atoms.get_chemical_formula() for atoms in result.to_ase())
    known = Counter(molecule(name).get_chemical_formula() for name in NAMES)
    assert set(found) <= set(known)
    p = known["C2H6O"] / len(NAMES)  # ethanol and dimethyl ether
    assert abs(found["C2H6O"] / 60 - p) < 4 * np.sqrt(p * (1 - p) / 60)


@pytest.mark.parametrize("sampler", ["euler", "heun", "ddpm", "ddim", "predictor-corrector"])
def test_a_seed_gives_the_same_molecule_in_any_company(model: MoleculeFlow, sampler: str) -> None:
    requests = draw_requests(model, [5, 6, 7, 8])
    together = last(model, requests, sampler=sampler)
    for row, request in enumerate(requests):
        alone = last(model, [request], sampler=sampler)
        assert alone.numbers[0].tolist() == together.numbers[row, : request.num_atoms].tolist()
        torch.testing.assert_close(alone.positions[0], together.positions[row, : request.num_atoms], rtol=0, atol=1e-8)
    assert not torch.equal(together.positions[0, :4], last(model, draw_requests(model, [9] * 4)).positions[0, :4])


def test_ddim_is_the_method_of_euler_on_straight_lines(model: MoleculeFlow) -> None:
    requests = draw_requests(model, [1, 2, 3])
    found = last(model, requests, steps=6, sampler="ddim").positions
    torch.testing.assert_close(found, last(model, requests, steps=6, sampler="euler").positions, rtol=0, atol=1e-10)


def test_samplers_that_choose_their_own_steps_are_refused(model: MoleculeFlow) -> None:
    with pytest.raises(ValueError, match=r"'adaptive' chooses its steps, .*; take one of: ddpm, ddim, euler"):
        last(model, draw_requests(model, [1]), sampler="adaptive")


def with_tails(model: MoleculeFlow, extra_dimensions: float) -> MoleculeFlow:
    """The same weights under PFGM++."""
    other = MoleculeFlow(replace(model.config, extra_dimensions=extra_dimensions)).double()
    other.load_state_dict(model.state_dict())
    return other


def test_training_noise_with_heavy_tails(model: MoleculeFlow) -> None:
    """|e|^2 / N, of N = 6 dimensions of three heavy atoms and D of PFGM++, has the distribution F(N, D)."""
    samples, dimensions = 400, 3.0
    batch = Molecules.from_ase([molecule("CH3CH2OH")] * samples, torch.float64)
    tailed, seen = with_tails(model, dimensions), []
    hook = tailed.skeleton.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with hook, torch.no_grad():
        tailed.loss(batch, torch.Generator().manual_seed(0))
    heavy = batch.positions[:, batch.numbers[0] > 1] / UNIT
    data = heavy - heavy.mean(dim=1, keepdim=True)
    _, noisy, time, _ = seen[-1]
    e = (noisy - (1 - time[:, None, None]) * data) / time[:, None, None]
    squared = e.square().sum(dim=(1, 2)) / 6
    assert kstest(squared.numpy(), f(6, dimensions).cdf).pvalue > 1e-3
    assert kstest(squared.numpy(), f(6, 1e9).cdf).pvalue < 1e-6


def test_drawing_with_heavy_tails(model: MoleculeFlow) -> None:
    """Many extra dimensions place the skeleton as normal noise does, few elsewhere; ancestral steps are refused."""

    def skeletons(variant: MoleculeFlow) -> torch.Tensor:
        drawn = last(variant, draw_requests(variant, [1, 2]), sampler="euler")
        return drawn.positions[drawn.numbers > 1]

    normal = skeletons(model)
    torch.testing.assert_close(skeletons(with_tails(model, 1e8)), normal, rtol=0, atol=1e-2)
    few = with_tails(model, 1.0)
    assert not torch.allclose(skeletons(few), normal, atol=0.1)
    assert (few.default_sampler, model.default_sampler) == ("heun", "ddpm")
    last(few, draw_requests(few, [1]), sampler=few.default_sampler)
    with pytest.raises(ValueError, match="DDPM does not allow the process PFGMPlusPlus"):
        last(few, draw_requests(few, [1]), sampler="ddpm")
    with pytest.raises(ValueError, match="extra_dimensions must be positive"):
        with_tails(model, 0.0)


def test_formula_and_number_of_atoms_are_obeyed(model: MoleculeFlow) -> None:
    seen, unseen = parse_formula("C2H6O"), parse_formula("C3H7NO")
    for formula in (seen, unseen):
        for atoms in last(model, draw_requests(model, range(5), formula=formula)).to_ase():
            assert Counter(atoms.numbers.tolist()) == Counter(formula)
    for atoms in last(model, draw_requests(model, range(5), num_atoms=9)).to_ase():
        assert len(atoms) == 9
    with pytest.raises(ValueError, match="the model knows no composition with 8 atoms"):
        draw_requests(model, [0], num_atoms=8)


def test_a_scaffold_is_held_and_moves_with_what_grows_on_it(model: MoleculeFlow) -> None:
    core = molecule("CH3CH2OH")
    heavy = core.positions[core.numbers > 1]
    scaffold = Scaffold((6, 8), torch.from_numpy(heavy[1:] + np.array([5.0, 0.0, 0.0])), (3, 1))
    requests = draw_requests(model, range(4), scaffold=scaffold)
    result = last(model, requests, scaffold=scaffold)
    for row in range(4):
        assert result.numbers[row, :2].tolist() == [6, 8]
        torch.testing.assert_close(result.positions[row, :2], scaffold.positions, rtol=0, atol=1e-12)
    # the noise of a sample stands still: of the rest, only that it follows a shift can be asked
    shifted = Scaffold((6, 8), scaffold.positions + torch.tensor([0.0, -3.0, 1.0]), (3, 1))
    moved = last(model, requests, scaffold=shifted)
    atoms = result.mask
    difference = (moved.positions - result.positions)[atoms]
    torch.testing.assert_close(difference, torch.tensor([[0.0, -3.0, 1.0]]).double().expand_as(difference))


def test_conditions_steer_and_guidance_weighs_them(model: MoleculeFlow) -> None:
    free = last(model, draw_requests(model, [1, 2])).positions
    requests = draw_requests(model, [1, 2], conditions={"dipole": 2.5})
    told = last(model, requests)
    assert told.conditions["dipole"].tolist() == [2.5, 2.5]
    assert not torch.allclose(told.positions, free)
    torch.testing.assert_close(last(model, requests, guidance=0.0).positions, free)
    assert not torch.allclose(last(model, requests, guidance=2.0).positions, told.positions)
    with pytest.raises(ValueError, match="no condition 'gap'; its conditions are: dipole"):
        draw_requests(model, [1], conditions={"gap": 1.0})


def test_the_loss_falls_and_is_reproducible() -> None:
    molecules = training_set()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        measured = MoleculeFlow.measure(molecules)
        model = MoleculeFlow(MoleculeFlowConfig(**measured, skeleton=TINY, hydrogens=TINY))
    model.fit(molecules)
    batch = molecules.batch(np.arange(len(molecules)).repeat(8))

    def loss(seed: int) -> torch.Tensor:
        return model.loss(batch, torch.Generator().manual_seed(seed)).mean()

    before = torch.stack([loss(1000 + i) for i in range(8)]).mean().item()
    assert loss(3).item() == loss(3).item() != loss(4).item()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(60):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    after = torch.stack([loss(1000 + i) for i in range(8)]).mean().item()
    assert after < 0.5 * before


def test_the_loss_does_not_depend_on_how_molecules_stand_on_average(model: MoleculeFlow) -> None:
    """Noise is random, so two orientations give two draws of the same quantity."""
    batch = training_set().batch(np.zeros(400, int))  # one molecule, many times
    turn = torch.from_numpy(special_ortho_group.rvs(3, random_state=0))
    here = model.loss(Molecules(batch.numbers, batch.positions.double(), batch.bonds), torch.Generator().manual_seed(0))
    turned = Molecules(batch.numbers, batch.positions.double() @ turn, batch.bonds)
    there = model.loss(turned, torch.Generator().manual_seed(1))
    error = torch.sqrt((here.var() + there.var()) / 400)
    assert abs(here.mean() - there.mean()) < 4 * error


def test_it_is_the_same_after_a_file(model: MoleculeFlow, tmp_path: Path) -> None:
    save_generator(model, tmp_path / "flow.safetensors", {})
    loaded = load_generator(tmp_path / "flow.safetensors")
    requests = draw_requests(model, [1, 2, 3])
    assert isinstance(loaded, MoleculeFlow)
    assert draw_requests(loaded, [1, 2, 3]) == requests
    torch.testing.assert_close(last(loaded, requests).positions, last(model, requests).positions)


def test_molecules_without_a_skeleton_are_refused_by_name(model: MoleculeFlow) -> None:
    hydrogen = molecule("H2")
    with pytest.raises(ValueError, match="a molecule of hydrogens alone has no skeleton"):
        last(model, draw_requests(model, [0], formula={1: 2}))
    pair = MoleculeSet.from_rows(
        [molecule("CH4").numbers, hydrogen.numbers], [molecule("CH4").positions, hydrogen.positions], [None] * 2, {}
    )
    with pytest.raises(
        ValueError, match=r"the training set: in memory: molecule 1 \(counted from 0\): a molecule without heavy"
    ):
        MoleculeFlow.check(pair, pair)


def test_impossible_configs_are_refused() -> None:
    sizes = asdict(TINY)
    for change, message in (({"num_layers": 0}, "num_layers must lie in 1"), ({"pair_channels": 12}, "multiple of 8")):
        with pytest.raises(ValueError, match=message):
            NetworkConfig(**{**sizes, **change})
    for elements in ((6, 8), (1,), (1, 8, 6), (1, 200)):
        with pytest.raises(ValueError, match="elements must ascend from 1"):
            MoleculeFlowConfig(elements)
