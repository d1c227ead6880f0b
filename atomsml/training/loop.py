"""The training loop: it yields after every step, so that the caller evaluates, logs, and saves.

What is trained, and on what, is not its business: an Objective turns a batch into gradients. All that a run is made of
is in TrainingState; a run that is stopped and restored from it takes the same steps, bit for bit on a CPU, as long as
its limits are steps or epochs. Where a limit in minutes is given, the learning rate follows the clock. What a network
draws in training, as dropout does, is decided by the seed of the run and the number of the step: there is no generator
to be kept.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from atomsml.training.base_config import Clip, RunConfig
from atomsml.training.distributed import World
from atomsml.training.optim.optimizers import build_optimizer
from atomsml.training.optim.schedules import Plateau, learning_rate_factor

CLIP_HISTORY, CLIP_AFTER = 50, 20  # norms that adaptive clipping looks back on, and how many it waits for

Model = TypeVar("Model", bound=nn.Module)
Batch = TypeVar("Batch")
Batch_co = TypeVar("Batch_co", covariant=True)
Batch_contra = TypeVar("Batch_contra", contravariant=True)


class Batches(Protocol[Batch_co]):
    """Passes over a data set, in an order that only the number of the epoch decides."""

    def plan(self, epoch: int) -> Sequence[object]: ...  # one entry for each batch
    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch_co]: ...  # from batch number `start`


class Objective(Protocol[Model, Batch_contra]):
    """What is minimised: adds its gradients to those of `state.model` and returns its value."""

    def __call__(self, state: TrainingState[Model], batch: Batch_contra, done: float) -> float: ...


@dataclass
class TrainingState(Generic[Model]):
    """Everything that changes while a run goes on."""

    model: Model
    averaged: Model  # exponential moving average of the weights: the ones to keep
    optimizer: torch.optim.Optimizer
    plateau: Plateau
    step: int = 0
    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    minutes: float = 0.0  # since the start, pauses between a stop and a resumption left out
    best_loss: float = math.inf  # of the averaged weights on the validation set
    loss_sum: float = 0.0  # of the steps since the last evaluation
    loss_steps: int = 0  # how many those are
    norms: list[float] = field(default_factory=list)  # of the last gradients, clipped: the newest CLIP_HISTORY

    @staticmethod
    def start(model: Model, config: RunConfig) -> TrainingState[Model]:
        model.train()
        averaged = copy.deepcopy(model).requires_grad_(False).eval()
        optimizer = build_optimizer(
            [(name, p) for name, p in model.named_parameters() if p.requires_grad], config.optimizer
        )
        return TrainingState(model, averaged, optimizer, Plateau(config.schedule))


@dataclass(frozen=True)
class Step:
    """One step of the optimiser."""

    number: int  # from 1
    epoch: int  # from 0
    learning_rate: float
    loss: float  # of the batch
    done: float  # fraction of the run before it, 0 .. 1
    ends_epoch: bool


class NonFiniteLoss(ValueError):
    """The loss or its gradient became NaN or infinite; `batch` is where it happened."""

    def __init__(self, message: str, batch: object) -> None:
        super().__init__(message)
        self.batch = batch


def fit(
    state: TrainingState[Model],
    batches: Batches[Batch],
    config: RunConfig,
    objective: Objective[Model, Batch],
    world: World | None = None,
) -> Iterator[Step]:
    """Train `state.model` in place, from where `state` stands, until a limit of the config is reached.

    Raises:
        NonFiniteLoss: the state is that after the last good step.
    """
    world = world or World()
    # let kernels compile, at their first call, before the clock starts
    with _drawn_by(config.seed, state, world):
        objective(state, next(batches.epoch(state.epoch, state.batch)), 0.0)
    began = time.monotonic() - 60 * state.minutes
    while True:
        count = len(batches.plan(state.epoch))
        for batch in batches.epoch(state.epoch, state.batch):
            done = progress(state, config, count)
            if done >= 1:
                return
            rate = learning_rate_factor(config.schedule, done) * state.plateau.factor * config.optimizer.learning_rate
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            with _drawn_by(config.seed, state, world):
                value = _step(state, batch, config, objective, done)
            state.step += 1
            state.batch += 1
            state.loss_sum += value
            state.loss_steps += 1
            _update_average(state, config.ema_decay)
            # after the step, so that the caller sees the last one for what it is, and evaluates
            state.minutes = world.same((time.monotonic() - began) / 60)
            number, epoch, ends = state.step, state.epoch, state.batch == count
            if ends:  # before the yield, so that a checkpoint taken there goes on with the next epoch
                state.epoch, state.batch = epoch + 1, 0
            yield Step(number, epoch, rate, value, done, ends)


@contextmanager
def _drawn_by(seed: int, state: TrainingState[Model], world: World) -> Iterator[None]:
    """Random numbers are those of this step and process; the random state of the CPU stays as it is outside."""
    drawn = np.random.SeedSequence([seed, state.step, world.rank]).generate_state(1, np.uint64)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(drawn >> 1))
        yield


def progress(state: TrainingState[Model], config: RunConfig, batches: int) -> float:
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


def _step(
    state: TrainingState[Model], batch: Batch, config: RunConfig, objective: Objective[Model, Batch], done: float
) -> float:
    """Gradients and one step of the optimiser; returns the loss of the batch."""
    state.optimizer.zero_grad()
    value = objective(state, batch, done)
    trained = [p for p in state.model.parameters() if p.grad is not None]
    largest = largest_norm(config.clip, state.norms)
    norm = torch.nn.utils.clip_grad_norm_(trained, largest).item()
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise NonFiniteLoss(f"the loss became {value} and its gradient {norm} at step {state.step + 1}", batch)
    state.norms = [*state.norms[1 - CLIP_HISTORY :], min(norm, largest)]
    state.optimizer.step()
    return value


def largest_norm(clip: Clip, norms: Sequence[float]) -> float:
    """The norm beyond which a gradient is scaled down.

    Adaptive clipping, which training generators needs because a batch at an unlucky time has a far larger gradient
    than others, takes 1.5 mean + 2 standard deviations of the last norms, as EDM does (Hoogeboom et al.,
    arXiv:2203.17003, whose published program has it).
    """
    if clip != "adaptive":
        return clip
    return math.inf if len(norms) < CLIP_AFTER else 1.5 * float(np.mean(norms)) + 2 * float(np.std(norms))


@torch.no_grad()
def _update_average(state: TrainingState[Model], decay: float) -> None:
    """Young averages forget faster: the first weights are random."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for kept, new in zip(state.averaged.parameters(), state.model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
