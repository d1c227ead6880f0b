"""The training loop learns what a network of its own kind can express, and follows limits, stages, seeds and masks."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from atomsml.dataset import Dataset, read_dataset
from atomsml.graph import AtomicGraph
from atomsml.potential import Potential
from atomsml.potentials.mace import MACE
from atomsml.training.config import BatchConfig, StageTwoConfig, TrainingConfig
from atomsml.training.loader import Loader
from atomsml.training.loop import NonFiniteLoss, Step, TrainingState, fit, progress
from atomsml.training.losses import LossConfig
from atomsml.training.objective import PotentialObjective, stage_at
from atomsml.training.optim.schedules import ScheduleConfig

CONFIG = TrainingConfig(max_steps=60, schedule=ScheduleConfig("constant", warmup=0.0), batch=BatchConfig(10))


Run = Callable[..., tuple[TrainingState[Potential], list[Step]]]
Maker = Callable[[int], MACE]


@pytest.fixture
def run(small_model: Maker) -> Run:
    def call(dataset: Dataset, config: TrainingConfig = CONFIG) -> tuple[TrainingState[Potential], list[Step]]:
        state = TrainingState.start(small_model(0), config)
        return state, list(
            fit(state, Loader(dataset, 4.0, config.batch, config.seed), config, PotentialObjective(config))
        )

    return call


@pytest.fixture
def dataset(water: Path) -> Dataset:
    return read_dataset(water)


def test_training_learns(dataset: Dataset, run: Run) -> None:
    _, steps = run(dataset)
    assert np.mean([step.loss for step in steps[-6:]]) < 0.3 * steps[0].loss
    assert [step.number for step in steps] == list(range(1, 61))
    assert [step.epoch for step in steps[:6]] == [0, 0, 0, 1, 1, 1]
    assert [step.ends_epoch for step in steps[:6]] == [False, False, True] * 2


def test_the_same_seed_takes_the_same_steps(dataset: Dataset, run: Run) -> None:
    config = TrainingConfig(max_steps=5, batch=BatchConfig(10))
    losses = [[step.loss for step in run(dataset, config)[1]] for _ in range(2)]
    assert losses[0] == losses[1]
    other = [step.loss for step in run(dataset, TrainingConfig(max_steps=5, batch=BatchConfig(10), seed=1))[1]]
    assert other != losses[0]


def test_limits_end_the_run(dataset: Dataset, run: Run) -> None:
    assert len(run(dataset, TrainingConfig(max_epochs=2, batch=BatchConfig(10)))[1]) == 6
    assert len(run(dataset, TrainingConfig(max_epochs=2, max_steps=4, batch=BatchConfig(10)))[1]) == 4
    # progress is by the clock, which no step sees before it is taken: the first one always is
    assert len(run(dataset, TrainingConfig(max_minutes=1e-6))[1]) <= 1
    with pytest.raises(ValueError, match="needs a limit"):
        run(dataset, TrainingConfig())


def test_progress_is_that_of_the_nearest_limit(small_model: Maker) -> None:
    config = TrainingConfig(max_minutes=10.0, max_epochs=5, max_steps=1000)
    state = TrainingState.start(small_model(0), config)
    state.minutes, state.epoch, state.batch, state.step = 2.0, 1, 5, 450
    assert progress(state, config, batches=10) == pytest.approx(0.45)
    state.minutes = 6.0
    assert progress(state, config, batches=10) == pytest.approx(0.6)


def test_averaged_weights_trail_the_trained_ones(dataset: Dataset, run: Run, small_model: Maker) -> None:
    state, _ = run(dataset)
    start = small_model(0).embedding
    moved = (state.model.embedding - start).norm()
    assert 0 < (state.averaged.embedding - start).norm() < moved
    assert not any(p.requires_grad for p in state.averaged.parameters())


def test_averages_are_those_of_torch(dataset: Dataset, small_model: Maker) -> None:
    """With a decay below (1 + n) / (10 + n) for every n that is reached, the average is the plain exponential one."""
    config = TrainingConfig(max_steps=4, ema_decay=0.05, batch=BatchConfig(10))
    state = TrainingState.start(small_model(0), config)
    average = torch.optim.swa_utils.AveragedModel(
        copy.deepcopy(state.model), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.05)
    )
    average.update_parameters(state.model)  # the first call copies
    for _ in fit(state, Loader(dataset, 4.0, config.batch, 0), config, PotentialObjective(config)):
        average.update_parameters(state.model)
    for ours, theirs in zip(state.averaged.parameters(), average.module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_young_averages_forget_their_first_weights(dataset: Dataset, small_model: Maker) -> None:
    """In step n the average keeps d_n = (1 + n) / (10 + n) of itself. After it, what it had in step k counts by

        d_(k+1) ... d_n = (n + 1)! (k + 10)! / ((k + 1)! (n + 10)!)

    which leaves 1 / 1144 of the random start after six steps, where a decay of 0.999 would leave 0.994.
    """
    config = TrainingConfig(max_steps=6, ema_decay=0.999, batch=BatchConfig(10))
    state = TrainingState.start(small_model(0), config)
    weights = [state.model.embedding.detach().clone()]
    for _ in fit(state, Loader(dataset, 4.0, config.batch, 0), config, PotentialObjective(config)):
        weights.append(state.model.embedding.detach().clone())

    def kept(k: int, n: int = 6) -> float:
        f = math.factorial
        return f(n + 1) * f(k + 10) / (f(k + 1) * f(n + 10))

    expected = kept(0) * weights[0] + sum((kept(k) - kept(k - 1)) * weights[k] for k in range(1, 7))
    torch.testing.assert_close(state.averaged.embedding, expected)


def test_the_second_stage_changes_the_weights_of_the_loss(dataset: Dataset, run: Run) -> None:
    config = TrainingConfig(
        max_steps=6, batch=BatchConfig(30), loss=LossConfig(1.0, 1.0), stage_two=StageTwoConfig(0.5, 1000.0, 1.0)
    )
    _, steps = run(dataset, config)
    assert [stage_at(step.done, config) for step in steps] == [1, 1, 1, 2, 2, 2]
    assert steps[3].loss > 100 * steps[2].loss


def test_energies_alone_train_without_forces(dataset: Dataset, run: Run) -> None:
    unlabelled = read_dataset(dataset.found[0].path, type(dataset.found[0].keys)(forces=""))
    assert unlabelled.label_counts()["forces"] == 0
    _, steps = run(unlabelled)
    assert steps[-1].loss < 0.5 * steps[0].loss


def test_matrix_products_in_bfloat16_train_as_well(dataset: Dataset, run: Run) -> None:
    config = TrainingConfig(max_steps=40, batch=BatchConfig(10), precision="bfloat16")
    state, steps = run(dataset, config)
    assert steps[-1].loss < 0.5 * steps[0].loss
    assert state.model.dtype == torch.float32


def test_a_loss_that_is_not_finite_stops_the_run_before_the_step(dataset: Dataset, small_model: Maker) -> None:
    config = TrainingConfig(max_steps=3, batch=BatchConfig(10))
    state = TrainingState.start(small_model(0), config)
    steps = fit(state, Loader(dataset, 4.0, config.batch, 0), config, PotentialObjective(config))
    next(steps)
    with torch.no_grad():
        state.model.embedding[0, 0] = float("inf")
    before = copy.deepcopy(state.model.layers.state_dict())
    with pytest.raises(NonFiniteLoss, match=r"the loss became (nan|inf).* at step 2") as stop:
        next(steps)
    assert isinstance(stop.value.batch, AtomicGraph)
    assert stop.value.batch.num_systems == 10
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.model.layers.state_dict().items())


def test_batches_of_several_limits(dataset: Dataset) -> None:
    loader = Loader(dataset, 4.0, BatchConfig(structures=None, atoms=8, edges=None), seed=0)
    assert {len(batch) for batch in loader.plan(0)} == {2}
    by_edges = Loader(dataset, 4.0, BatchConfig(structures=None, edges=18), seed=0)  # 6 edges a molecule
    assert {len(batch) for batch in by_edges.plan(0)} == {3}
    assert sorted(itertools.chain(*map(list, loader.plan(1)))) == list(range(30))
    assert [list(b) for b in loader.plan(0)] != [list(b) for b in loader.plan(1)]


def test_workers_read_the_same_batches(dataset: Dataset) -> None:
    alone = Loader(dataset, 4.0, BatchConfig(7), seed=3)
    helped = Loader(dataset, 4.0, BatchConfig(7), seed=3, workers=1)
    for ours, theirs in zip(alone.epoch(2, start=2), helped.epoch(2, start=2), strict=True):
        torch.testing.assert_close(ours.positions, theirs.positions)
        torch.testing.assert_close(ours.edge_index, theirs.edge_index)
