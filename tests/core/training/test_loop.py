"""The training loop learns labels that a network of its own kind can express, and its errors are those of numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.morse import MorsePotential

from atomsml.graph import AtomicGraph
from atomsml.losses import LossWeights
from atomsml.potential import evaluate
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.training import TrainingConfig, errors, fit


@pytest.fixture
def graphs() -> list[AtomicGraph]:
    """Shaken water with the energies and forces of ASE's Morse potential."""
    rng, found = np.random.default_rng(0), []
    for _ in range(24):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.1, size=(3, 3))
        atoms.calc = MorsePotential(epsilon=2.0, r0=1.0, rho0=3.0)
        graph = AtomicGraph.from_ase(atoms, torch.float32)
        found.append(
            graph.replace(
                system_data={"energy": torch.tensor([atoms.get_potential_energy()], dtype=torch.float32)},
                atom_data={"forces": torch.tensor(atoms.get_forces(), dtype=torch.float32)},
            ).with_neighbors(4.0)
        )
    return found


def small_model(seed: int = 0) -> MACE:
    torch.manual_seed(seed)
    config = MACEConfig(elements=(1, 8), cutoff=4.0, channels=8, lmax=1, hidden_lmax=1, correlation=2, radial_mlp=(8,))
    return MACE(config)


def run(model: MACE, graphs: Sequence[AtomicGraph], steps: int, seed: int = 0) -> list[float]:
    config = TrainingConfig(minutes=60, warmup=1e-9, batch_atoms=24, weights=LossWeights(1.0, 1.0), seed=seed)
    return [step.loss for step, _ in zip(fit(model, graphs, config), range(steps), strict=False)]


def test_training_learns(graphs: list[AtomicGraph]) -> None:
    model = small_model()
    before = errors(model, graphs)
    losses = run(model, graphs, 90)
    after = errors(model, graphs)
    assert np.mean(losses[-9:]) < 0.3 * np.mean(losses[:3])
    assert after["forces_mae"] < 0.3 * before["forces_mae"]


def test_training_follows_the_seed(graphs: list[AtomicGraph]) -> None:
    first, again, other = (run(small_model(), graphs, 4, seed) for seed in (0, 0, 1))
    # the learning rate follows the clock, so that two runs agree only as far as their steps are small
    np.testing.assert_allclose(first, again, rtol=1e-3)
    assert not np.allclose(first, other, rtol=1e-3)


def test_averaged_weights_trail_the_trained_ones(graphs: list[AtomicGraph]) -> None:
    model = small_model()
    start = model.embedding.detach().clone()
    config = TrainingConfig(minutes=60, warmup=1e-9, batch_atoms=24)
    for step in fit(model, graphs, config):
        if step.number == 30:
            break
    moved = (model.embedding - start).norm()
    assert 0 < (step.averaged.get_parameter("embedding") - start).norm() < moved


def test_time_limit_ends_the_run(graphs: list[AtomicGraph]) -> None:
    assert list(fit(small_model(), graphs, TrainingConfig(minutes=0.0))) == []


def test_labels_that_are_not_finite_stop_the_run(graphs: list[AtomicGraph]) -> None:
    graphs[0].system_data["energy"][0] = float("nan")
    with pytest.raises(ValueError, match="loss became nan"):
        run(small_model(), graphs, 10)


def test_errors_equal_those_of_numpy(graphs: list[AtomicGraph]) -> None:
    model = small_model()
    difference = np.concatenate([(evaluate(model, g).forces - g.atom_data["forces"]).flatten() for g in graphs])
    found = errors(model, graphs, batch_atoms=7)
    assert found["forces_mae"] == pytest.approx(1000 * np.abs(difference).mean(), rel=1e-4)
    assert found["forces_rmse"] == pytest.approx(1000 * np.sqrt((difference**2).mean()), rel=1e-4)
    assert "stress_mae" not in found
