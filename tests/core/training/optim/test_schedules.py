"""Schedules: torch's schedulers are the oracle."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from atomsml.training.optim.schedules import Plateau, ScheduleConfig, learning_rate_factor

STEPS = 200


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def torch_rates(scheduler: LRScheduler) -> list[float]:
    """The rate at progress 0, 1/STEPS, ..., 1."""
    rates = []
    for _ in range(STEPS + 1):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def our_rates(config: ScheduleConfig) -> list[float]:
    return [learning_rate_factor(config, step / STEPS) for step in range(STEPS + 1)]


def test_cosine_is_cosine_annealing() -> None:
    config = ScheduleConfig("cosine", warmup=0.0, final=0.05)
    expected = torch_rates(CosineAnnealingLR(optimizer(), T_max=STEPS, eta_min=0.05))
    assert np.allclose(our_rates(config), expected, atol=1e-12)  # torch accumulates 200 roundings


def test_warmup_is_linear_and_the_cosine_begins_behind_it() -> None:
    config, warm = ScheduleConfig("cosine", warmup=0.1), 20
    parts = optimizer()
    schedulers = [LinearLR(parts, start_factor=1 / warm, total_iters=warm - 1), CosineAnnealingLR(parts, STEPS - warm)]
    # LinearLR cannot start at zero: it is one step behind, and the joint lies at step `warm`
    expected = torch_rates(SequentialLR(parts, [schedulers[0], schedulers[1]], [warm]))
    ours = our_rates(config)
    assert ours[0] == 0.0
    assert np.allclose(ours[1 : warm + 1], expected[:warm], atol=1e-12)
    assert np.allclose(ours[warm:], expected[warm:], atol=1e-12)


def test_linear_wsd_is_flat_and_then_linear() -> None:
    config = ScheduleConfig("wsd", warmup=0.0, decay=0.25, final=0.1, decay_shape="linear")
    parts = optimizer()
    flat, fall = LambdaLR(parts, lambda step: 1.0), LinearLR(parts, 1.0, 0.1, total_iters=50)
    expected = torch_rates(SequentialLR(parts, [flat, fall], [150]))
    assert np.allclose(our_rates(config), expected, atol=1e-12)


def test_wsd_falls_as_one_minus_square_root_by_default() -> None:
    rates = our_rates(ScheduleConfig("wsd", warmup=0.0, decay=0.25))
    assert rates[:151] == [1.0] * 151
    assert np.allclose(rates[150:], 1 - np.sqrt(np.linspace(0, 1, 51)), atol=1e-12)


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_constant_after_the_warmup(name: Literal["constant", "plateau"]) -> None:
    config = ScheduleConfig(name, warmup=0.5)
    assert [learning_rate_factor(config, p) for p in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("name", ["cosine", "wsd"])
def test_ends_at_final_even_when_the_run_overshoots(name: Literal["cosine", "wsd"]) -> None:
    config = ScheduleConfig(name, final=0.125)
    assert learning_rate_factor(config, 1.0) == pytest.approx(0.125, abs=1e-15)
    assert learning_rate_factor(config, 1.01) == pytest.approx(0.125, abs=1e-15)


@pytest.mark.parametrize("config", [ScheduleConfig("wsd", decay=0.0), ScheduleConfig("cosine", warmup=1.0)])
def test_a_run_without_a_falling_part(config: ScheduleConfig) -> None:
    assert learning_rate_factor(config, 1.0) == 1.0


def test_plateau_is_reduce_on_plateau() -> None:
    config = ScheduleConfig("plateau", patience=2, factor=0.3, final=0.01)
    losses = np.random.default_rng(0).uniform(size=60)
    losses[10] = math.nan
    reference = optimizer()
    scheduler = ReduceLROnPlateau(reference, factor=0.3, patience=2, threshold=0.0, min_lr=0.01)
    plateau = Plateau(config)
    rates = []
    for loss in losses:
        scheduler.step(float(loss))
        rates.append(plateau.update(float(loss)))
        assert rates[-1] == pytest.approx(reference.param_groups[0]["lr"], rel=1e-12)
    assert rates[0] == 1.0
    assert rates[-1] == 0.01  # it has fallen all the way


def test_plateau_goes_on_from_its_state() -> None:
    config = ScheduleConfig("plateau", patience=1)
    losses = [3.0, 2.0, 2.5, 2.6, 1.0, 1.5, 1.5, 1.5]
    whole, first, second = Plateau(config), Plateau(config), Plateau(config)
    expected = [whole.update(loss) for loss in losses]
    found = [first.update(loss) for loss in losses[:3]]
    second.restore(first.state())
    assert found + [second.update(loss) for loss in losses[3:]] == expected
    assert expected[3] == 0.5  # not a run in which nothing happened


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"name": "wsd", "warmup": 0.8, "decay": 0.3}, "fit in 1"),
        ({"warmup": -0.1}, "fit in 1"),
        ({"final": 2.0}, "final"),
        ({"factor": 1.0}, "factor"),
        ({"patience": -1}, "patience"),
    ],
)
def test_refuses_what_makes_no_schedule(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ScheduleConfig(**options)
