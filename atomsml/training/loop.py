"""The training loop: it yields after every step, so that the caller evaluates, logs, and saves.

All that a run is made of is in TrainingState; a run that is stopped and restored from it takes the same steps, bit for
bit on a CPU, as long as its limits are steps or epochs. Where a limit in minutes is given, the learning rate follows
the clock.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from atomsml.graph import AtomicGraph
from atomsml.losses import LossConfig, loss_sums
from atomsml.potential import Potential, Prediction, evaluate
from atomsml.training.config import TrainingConfig
from atomsml.training.distributed import World
from atomsml.training.loader import Loader
from atomsml.training.optimizers import build_optimizer
from atomsml.training.schedules import Plateau, learning_rate_factor


@dataclass
class TrainingState:
    """Everything that changes while a run goes on."""

    potential: Potential
    averaged: Potential  # exponential moving average of the weights: the ones to keep
    optimizer: torch.optim.Optimizer
    plateau: Plateau
    step: int = 0
    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    minutes: float = 0.0  # since the start, pauses between a stop and a resumption left out
    best_loss: float = math.inf  # of the averaged weights on the validation set
    loss_sum: float = 0.0  # of the steps since the last evaluation
    loss_steps: int = 0  # how many those are

    @staticmethod
    def start(potential: Potential, config: TrainingConfig) -> TrainingState:
        averaged = copy.deepcopy(potential).requires_grad_(False)
        optimizer = build_optimizer(
            [(name, p) for name, p in potential.named_parameters() if p.requires_grad], config.optimizer
        )
        return TrainingState(potential, averaged, optimizer, Plateau(config.schedule))


@dataclass(frozen=True)
class Step:
    """One step of the optimiser."""

    number: int  # from 1
    epoch: int  # from 0
    learning_rate: float
    loss: float  # of the batch
    stage: int  # 1 or 2
    ends_epoch: bool


class NonFiniteLoss(ValueError):
    """The loss or its gradient became NaN or infinite; `graph` is the batch at which it happened."""

    def __init__(self, message: str, graph: AtomicGraph | None) -> None:
        super().__init__(message)
        self.graph = graph


def fit(
    state: TrainingState, loader: Loader, config: TrainingConfig, stress: bool = False, world: World | None = None
) -> Iterator[Step]:
    """Train `state.potential` in place, from where `state` stands, until a limit of the config is reached.

    `stress` says whether any structure has a stress label, which otherwise would be computed for nothing.

    Raises:
        NonFiniteLoss: the state is that after the last good step.
    """
    world = world or World()
    _warm_up(state, loader, config, stress, world)
    began = time.monotonic() - 60 * state.minutes
    while True:
        batches = len(loader.plan(state.epoch))
        for graph in loader.epoch(state.epoch, state.batch):
            done = progress(state, config, batches)
            if done >= 1:
                return
            stage = stage_at(done, config)
            rate = learning_rate_factor(config.schedule, done) * state.plateau.factor * config.optimizer.learning_rate
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            value = _step(state, graph, loss_at(stage, config), config, stress, world)
            state.step += 1
            state.batch += 1
            state.loss_sum += value
            state.loss_steps += 1
            _update_average(state, config.ema_decay)
            # after the step, so that the caller sees the last one for what it is, and evaluates
            state.minutes = world.same((time.monotonic() - began) / 60)
            number, epoch, ends = state.step, state.epoch, state.batch == batches
            if ends:  # before the yield, so that a checkpoint taken there goes on with the next epoch
                state.epoch, state.batch = epoch + 1, 0
            yield Step(number, epoch, rate, value, stage, ends)


def progress(state: TrainingState, config: TrainingConfig, batches: int) -> float:
    """How much of the run is used up, from 0 to 1, by the limit that is nearest.

    Raises:
        ValueError: the config sets no limit.
    """
    parts = [
        used / limit
        for used, limit in (
            (state.minutes, config.max_minutes),
            (state.epoch + state.batch / batches, config.max_epochs),
            (state.step, config.max_steps),
        )
        if limit is not None
    ]
    if not parts:
        raise ValueError("a training run needs a limit; give max_minutes, max_epochs or max_steps")
    return max(parts)


def stage_at(done: float, config: TrainingConfig) -> int:
    start = config.stage_two.start
    return 2 if start is not None and done >= start else 1


def loss_at(stage: int, config: TrainingConfig) -> LossConfig:
    """The loss of the first stage, or with the weights of the second."""
    if stage == 1:
        return config.loss
    two = config.stage_two
    return replace(config.loss, energy=two.energy, forces=two.forces, stress=two.stress)


def predict_for_loss(
    potential: Potential, graph: AtomicGraph, loss: LossConfig, stress: bool, precision: str, create_graph: bool
) -> Prediction:
    """What the loss asks for, under the precision of the run."""
    policy: AbstractContextManager[object] = nullcontext()
    if precision == "bfloat16":  # matrix products in bfloat16, weights and everything else as they are
        policy = torch.autocast(graph.device.type, torch.bfloat16)
    with policy:
        return evaluate(potential, graph, loss.forces > 0, stress and loss.stress > 0, create_graph)


def _warm_up(state: TrainingState, loader: Loader, config: TrainingConfig, stress: bool, world: World) -> None:
    """Let kernels compile, at their first call, before the clock starts."""
    graph = next(loader.epoch(state.epoch, state.batch))
    _gradients(state, graph, loss_at(1, config), config, stress, world)
    state.optimizer.zero_grad()


def _step(
    state: TrainingState,
    graph: AtomicGraph | None,
    loss: LossConfig,
    config: TrainingConfig,
    stress: bool,
    world: World,
) -> float:
    """Gradients and one step of the optimiser; returns the loss of the batch."""
    value = _gradients(state, graph, loss, config, stress, world)
    trained = [p for p in state.potential.parameters() if p.grad is not None]
    norm = torch.nn.utils.clip_grad_norm_(trained, config.clip).item()
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise NonFiniteLoss(f"the loss became {value} and its gradient {norm} at step {state.step + 1}", graph)
    state.optimizer.step()
    return value


def _gradients(
    state: TrainingState,
    graph: AtomicGraph | None,
    loss: LossConfig,
    config: TrainingConfig,
    stress: bool,
    world: World,
) -> float:
    """Forward and backward; loss and gradients are those of the whole batch of all processes."""
    device = state.potential.references.device
    state.optimizer.zero_grad()
    if graph is None:
        sums = counts = torch.zeros(3, dtype=torch.float64, device=device)
    else:
        graph = graph.to(device)
        prediction = predict_for_loss(state.potential, graph, loss, stress, config.precision, create_graph=True)
        sums, counts = loss_sums(prediction, graph, loss)
    counts = world.add(counts.clone())
    total = (sums / counts.clamp(min=1)).sum()
    if graph is not None:
        # of the weights alone: those of the positions, which forces have asked for, would be computed for nothing
        torch.autograd.backward(total, inputs=[p for p in state.potential.parameters() if p.requires_grad])
    world.add_gradients(state.potential.parameters())
    return world.add(total.detach().clone()).item()


@torch.no_grad()
def _update_average(state: TrainingState, decay: float) -> None:
    """Young averages forget faster: the first weights are random."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for kept, new in zip(state.averaged.parameters(), state.potential.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
