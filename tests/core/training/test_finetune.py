"""Fine-tuning starts at the base model and trains what it says, nothing else; replay is felt as much as it weighs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from atomsml.dataset import Dataset
from atomsml.dataset.columns import Columns
from atomsml.graph import AtomicGraph
from atomsml.modelfile import load, save
from atomsml.potential import Potential, evaluate
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.training.checkpoint import load_checkpoint, save_checkpoint
from atomsml.training.config import BatchConfig, FinetuneConfig, SourceConfig, TrainingConfig
from atomsml.training.finetune import (
    LowRankAdapted,
    check_fits,
    merge,
    mixed_order,
    prepare,
    refit_references,
    replay_for,
)
from atomsml.training.loader import Loader
from atomsml.training.loop import TrainingState, fit
from atomsml.training.losses import LossConfig
from atomsml.training.objective import PotentialObjective
from atomsml.training.optim.optimizers import OptimizerConfig

LORA = FinetuneConfig(model="base", method="lora", lora_rank=3, lora_alpha=6.0)


def small_mace() -> MACE:
    torch.manual_seed(0)
    config = MACEConfig(
        elements=(1, 6, 8), cutoff=4.0, channels=4, lmax=1, hidden_lmax=1, correlation=2, radial_mlp=(8,)
    )
    model = MACE(config).cast(torch.float64)
    model.references = torch.tensor([-13.0, -1000.0, -2000.0], dtype=torch.float64)
    return model


def shaken(names: list[str], seed: int = 0) -> list[Atoms]:
    rng, found = np.random.default_rng(seed), []
    for name in names:
        atoms = molecule(name)
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        found.append(atoms)
    return found


def batch(names: list[str]) -> AtomicGraph:
    return AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in shaken(names)]).with_neighbors(4.0)


def adapted(seed: int = 1, moved: bool = True) -> Potential:
    """A small MACE with low-rank updates; `moved` away from the base model, as training would."""
    generator = torch.Generator().manual_seed(seed)
    potential = prepare(small_mace(), LORA, generator)
    if moved:
        with torch.no_grad():
            for parameter in potential.parameters():
                if parameter.requires_grad:
                    parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return potential


def force_loss(potential: Potential, graph: AtomicGraph) -> torch.Tensor:
    prediction = evaluate(potential, graph, create_graph=True)
    assert prediction.forces is not None
    return prediction.forces.square().sum()


def test_lora_starts_at_the_base_model() -> None:
    graph = batch(["H2O", "CH3OH"])
    base, start = evaluate(small_mace(), graph), evaluate(adapted(moved=False), graph)
    assert torch.equal(base.energy, start.energy)
    assert torch.equal(base.forces, start.forces)


def test_lora_adds_the_scaled_product_of_two_thin_matrices() -> None:
    potential, base = adapted(), dict(small_mace().named_parameters())
    assert isinstance(potential, LowRankAdapted)
    ranks = set()
    for name, weight in merge(potential).named_parameters():
        up, down = (part[name.replace(".", "/")].detach().numpy() for part in (potential.up, potential.down))
        change = (weight - base[name]).detach().numpy()
        np.testing.assert_allclose(change, 6.0 / 3 * np.matmul(up, down), atol=1e-14)
        ranks.add(int(np.linalg.matrix_rank(change, tol=1e-10).max()))
    assert max(ranks) == 3  # of matrices with more rows and columns than that


def test_merged_model_is_a_plain_one_with_the_same_energies(tmp_path: Path) -> None:
    graph, potential = batch(["H2O", "CH3OH"]), adapted()
    plain = merge(potential)
    assert type(plain) is MACE
    assert plain.state_dict().keys() == small_mace().state_dict().keys()
    assert all(parameter.requires_grad for parameter in plain.parameters())
    save(plain, tmp_path / "tuned.safetensors", {})
    before, after = evaluate(potential, graph), evaluate(load(tmp_path / "tuned.safetensors"), graph)
    torch.testing.assert_close(after.energy, before.energy, rtol=1e-13, atol=0)
    torch.testing.assert_close(after.forces, before.forces, rtol=1e-11, atol=1e-11)


def test_merging_leaves_the_trained_model_alone() -> None:
    graph, potential = batch(["H2O"]), adapted()
    before = evaluate(potential, graph).energy
    with torch.no_grad():
        merge(potential).get_parameter("embedding").zero_()
    assert torch.equal(evaluate(potential, graph).energy, before)


def test_lora_derivatives_of_forces_equal_finite_differences() -> None:
    graph, potential = batch(["H2O"]), adapted()
    trained = [p for p in potential.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(force_loss(potential, graph), trained, materialize_grads=True)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in trained]
        values = []
        for step in (1e-6, -2e-6, 1e-6):  # there, to the other side, and back
            with torch.no_grad():
                torch._foreach_add_(trained, direction, alpha=step)
            values.append(force_loss(potential, graph).item())
        found = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
        # step^2 = 1e-12 times third derivatives over 20 and more dimensions, and rounding of 1e-16 / step
        assert found == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("config", "moves"),
    [
        (FinetuneConfig(model="base", method="naive"), lambda name: True),
        (FinetuneConfig(model="base", method="freeze", trainable=("readouts.*", "layers.1.*")), None),
        (LORA, lambda name: True),
    ],
)
def test_training_moves_what_the_method_says(config: FinetuneConfig, moves: Callable[[str], bool] | None) -> None:
    moves = moves or (lambda name: name.startswith(("readouts.", "layers.1.")))
    graph, base = batch(["H2O", "CH3OH"]), small_mace()
    start = {name: p.detach().clone() for name, p in base.named_parameters()}
    potential = prepare(base, config, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([p for p in potential.parameters() if p.requires_grad], lr=0.01)
    before = force_loss(potential, graph).item()
    for _ in range(8):
        optimizer.zero_grad()
        value = force_loss(potential, graph)
        value.backward()
        optimizer.step()
    assert value.item() < 0.9 * before
    for name, parameter in merge(potential).named_parameters():
        changed = not torch.equal(parameter, start[name])
        # two-body weights of a last layer that reads scalars only may have no gradient
        assert changed == moves(name), name


def test_lora_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    frames = shaken(["H2O", "CH3OH"] * 2)
    data = dataset_of(frames, np.full(4, -10.0), np.zeros((sum(map(len, frames)), 3)))
    config = TrainingConfig(precision="float64", max_steps=6)
    loader = Loader(data, 4.0, BatchConfig(structures=2), seed=0)

    def steps(state: TrainingState, last: int) -> None:
        for step in fit(state, loader, config, PotentialObjective(config)):
            if step.number == last:
                return

    whole, first, second = (TrainingState.start(adapted(moved=False), config) for _ in range(3))
    steps(whole, 6)
    steps(first, 3)
    save_checkpoint(first, tmp_path / "checkpoint.safetensors", "a run")
    load_checkpoint(second, tmp_path / "checkpoint.safetensors", "a run")
    steps(second, 6)
    for one, other in ((whole.model, second.model), (whole.averaged, second.averaged)):
        for (name, expected), found in zip(merge(one).named_parameters(), merge(other).parameters(), strict=True):
            assert torch.equal(expected, found), name
    assert not torch.equal(merge(whole.averaged).get_parameter("embedding"), small_mace().embedding)


def test_adapted_model_is_cast_as_a_whole() -> None:
    potential = adapted().cast(torch.float32)
    assert {p.dtype for p in potential.parameters()} == {torch.float32}
    assert potential.dtype == torch.float32
    assert potential.references.dtype == torch.float64


def test_lora_of_a_model_without_matrices_is_refused(pair_potential: Potential) -> None:
    with pytest.raises(ValueError, match="no parameter of the model is a matrix"):
        prepare(pair_potential, LORA, torch.Generator())


def test_freezing_and_its_patterns_go_together() -> None:
    for values in ({"method": "freeze"}, {"method": "lora", "trainable": ("readouts.*",)}):
        with pytest.raises(ValueError, match="give both or neither"):
            FinetuneConfig(model="base", **values)


def test_pattern_that_matches_nothing_lists_the_names() -> None:
    config = FinetuneConfig(model="base", method="freeze", trainable=("readouts.*", "readout.*"))
    with pytest.raises(
        ValueError, match=r"matches 'readout\.\*'; the parameters are embedding, .*readouts\.0"
    ) as error:
        prepare(small_mace(), config, torch.Generator())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 0}, "lora_rank and lora_alpha must be positive, got 0 and 8.0"),
        ({"lora_alpha": 0.0}, "lora_rank and lora_alpha must be positive, got 8 and 0.0"),
        ({"replay_weight": -1.0}, "replay_weight must be 0 or more, got -1.0"),
        ({"model": None, "replay": (SourceConfig("old.extxyz"),)}, r"replay needs finetune\.model"),
    ],
)
def test_impossible_configs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FinetuneConfig(**{"model": "base", **options})


def labelled(names: list[str], energies: np.ndarray) -> Dataset:
    frames = shaken(names)
    return dataset_of(frames, energies, np.full((sum(map(len, frames)), 3), np.nan))


def dataset_of(frames: list[Atoms], energies: np.ndarray, forces: np.ndarray) -> Dataset:
    columns = Columns(
        num_atoms=np.array([len(a) for a in frames]),
        numbers=np.concatenate([a.numbers for a in frames]).astype(np.uint8),
        positions=np.concatenate([a.positions for a in frames]),
        forces=forces,
        cell=np.zeros((len(frames), 3, 3)),
        pbc=np.zeros((len(frames), 3), dtype=bool),
        energy=energies,
        stress=np.full((len(frames), 3, 3), np.nan),
        config_types=np.full(len(frames), ""),
        groups=np.full(len(frames), ""),
    )
    return Dataset([columns])


@pytest.mark.parametrize("names", [["H2O", "CH4", "CO2", "CH3OH"], ["CH3OH"] * 3, ["H2O", "H2", "O2", "H2O2"]])
def test_references_move_by_the_shortest_least_squares_fit(names: list[str]) -> None:
    potential = small_mace()
    frames = shaken(names)
    counts = np.array([[np.sum(a.numbers == z) for z in potential.elements] for a in frames], dtype=float)
    base = np.array([evaluate(potential, AtomicGraph.from_ase(a)).energy.item() for a in frames])
    offsets = np.array([3.0, -7.0, 11.0])
    noise = np.random.default_rng(1).normal(scale=0.1, size=len(names))
    dataset = labelled(names, base + counts @ offsets + noise)
    start = potential.references.clone()
    found = refit_references(potential, dataset)
    per_atom = 1 / counts.sum(axis=1)
    wanted = np.linalg.pinv(counts * per_atom[:, None]) @ ((counts @ offsets + noise) * per_atom)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9)
    np.testing.assert_allclose((potential.references - start).numpy(), wanted, atol=1e-9)


def test_missing_energies_are_left_out_of_the_fit() -> None:
    potential = small_mace()
    energies = [evaluate(potential, AtomicGraph.from_ase(a)).energy.item() + 5.0 for a in shaken(["H2O", "H2O"])]
    found = refit_references(potential, labelled(["H2O", "H2O"], np.array([energies[0], np.nan])))
    np.testing.assert_allclose(found.numpy(), [2.0, 0.0, 1.0], atol=1e-9)  # 2 * 2 + 1 = 5, carbon untouched
    with pytest.raises(ValueError, match="needs energies, and no structure has one"):
        refit_references(potential, labelled(["H2O"], np.array([np.nan])))


def test_replay_energies_follow_the_references(tmp_path: Path) -> None:
    names, potential = ["H2O", "CH4", "CO2", "CH3OH"], small_mace()
    save(potential, tmp_path / "base.safetensors", {})
    base = np.array([evaluate(potential, AtomicGraph.from_ase(a)).energy.item() for a in shaken(names)])
    replay = Dataset.concatenate([labelled(names, base).with_weight(2.0), labelled(["H2O"], base[:1]).with_weight(3.0)])
    refit_references(potential, labelled(names, base + np.array([10.0, 20.0, -30.0, 0.0])))
    shifted = replay_for(potential, str(tmp_path / "base.safetensors"), replay)
    assert abs(shifted.energy - replay.energy).min() > 1.0
    for i, graph in enumerate(shifted):
        assert graph.system_data["energy"].item() == pytest.approx(evaluate(potential, graph).energy.item(), rel=1e-12)
        assert graph.system_data["weight"].item() == (2.0 if i < 4 else 3.0)


def test_replay_of_another_level_of_theory_is_refused(tmp_path: Path) -> None:
    names, potential, base = ["H2O", "CH4"], small_mace(), tmp_path / "base.safetensors"
    save(potential, base, {})
    energies = np.array([evaluate(potential, AtomicGraph.from_ase(a)).energy.item() for a in shaken(names)])
    replay_for(potential, str(base), labelled(names, energies + 0.9 * np.array([3, 5])))
    with pytest.raises(ValueError, match=r"differ by 1.1 eV/atom: replay takes structures labelled like"):
        replay_for(potential, str(base), labelled(names, energies + 1.1 * np.array([3, 5])))


def test_unknown_elements_are_named() -> None:
    check_fits(small_mace(), labelled(["H2O"], np.zeros(1)))
    with pytest.raises(ValueError, match="does not know N; it was made for H C O; leave these structures out"):
        check_fits(small_mace(), labelled(["H2O", "NH3"], np.zeros(2)))


@pytest.mark.parametrize(("num_replay", "weight"), [(1000, 1.0), (7, 2.5), (30, 0.13), (4, 0.01)])
def test_replay_is_drawn_as_often_as_it_weighs(num_replay: int, weight: float) -> None:
    rng, seen = np.random.default_rng(0), np.zeros(20 + num_replay)
    epochs = 400
    for _ in range(epochs):
        order = mixed_order(20, num_replay, weight, rng)
        np.testing.assert_array_equal(np.sort(order[order < 20]), np.arange(20))
        np.add.at(seen, order, 1)
    # the number drawn is right but for the last, which is a coin thrown once an epoch: sigma <= 0.5 sqrt(epochs)
    assert seen[20:].sum() == pytest.approx(epochs * weight * 20, abs=4 * 0.5 * epochs**0.5)
    mean = epochs * weight * 20 / num_replay
    assert np.abs(seen[20:] - mean).max() < 5 * mean**0.5 + 1  # every structure as often, within a Poisson spread


def test_order_without_replay_is_a_permutation() -> None:
    for num_replay, weight in [(0, 1.0), (5, 0.0)]:
        order = mixed_order(6, num_replay, weight, np.random.default_rng(0))
        np.testing.assert_array_equal(np.sort(order), np.arange(6))


def test_replay_weight_decides_between_new_and_old_labels(pair_potential: Potential) -> None:
    """Two contradictory sets of forces: the more replay weighs, the more a run keeps to it."""
    frames = [Atoms("Ar3", np.array([[0, 0, 0], [2.6 + 0.05 * i, 0, 0], [0.4 * i, 3.0, 0]])) for i in range(12)]
    graph = AtomicGraph.from_list([AtomicGraph.from_ase(a) for a in frames]).with_neighbors(pair_potential.cutoff)
    sigma, labels = pair_potential.get_parameter("sigma"), []
    for value in (2.3, 2.1):  # of the new labels, of the replay
        torch.nn.init.constant_(sigma, value)
        labels.append(evaluate(pair_potential, graph).forces)
    new, old = (dataset_of(frames, np.full(12, np.nan), forces.numpy()) for forces in labels)
    found = []
    for weight in (0.0, 0.1, 1.0, 10.0):
        torch.nn.init.constant_(sigma, 2.1)
        config = TrainingConfig(
            loss=LossConfig(energy=0.0, forces_kind="mse"), optimizer=OptimizerConfig(learning_rate=0.02),
            precision="float64", max_steps=120,
        )  # fmt: skip
        batch = BatchConfig(structures=6)
        loader = Loader(new, pair_potential.cutoff, batch, seed=0, replay=old, replay_weight=weight)
        for _ in fit(TrainingState.start(pair_potential, config), loader, config, PotentialObjective(config)):
            pass
        forces = evaluate(pair_potential, graph).forces
        found.append([(forces - label).square().mean().item() for label in labels])
    of_new, of_old = np.array(found).T
    assert (of_new[1:] > 1.1 * of_new[:-1]).all(), of_new
    assert (of_old[1:] < 0.95 * of_old[:-1]).all(), of_old
