"""A plain training loop that yields every step: the caller logs, evaluates, and saves."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from atomsml.dataset import batches
from atomsml.graph import AtomicGraph
from atomsml.losses import LossWeights, loss
from atomsml.potential import Potential, evaluate


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the learning rate falls along half a cosine over `minutes` of wall time."""

    minutes: float
    learning_rate: float = 0.01
    warmup: float = 0.02  # fraction of the time over which the learning rate rises
    batch_atoms: int = 600
    weights: LossWeights = field(default_factory=LossWeights)
    clip: float = 10.0  # largest norm of the gradient
    ema_decay: float = 0.999  # of the averaged weights, which are the ones to keep
    seed: int = 0


@dataclass(frozen=True)
class Step:
    """One optimiser step."""

    number: int
    epoch: int
    minutes: float
    learning_rate: float
    loss: float
    averaged: Potential  # exponential moving average of the weights; the same object at every step


def fit(potential: Potential, graphs: Sequence[AtomicGraph], config: TrainingConfig) -> Iterator[Step]:
    """Train `potential` in place on labelled graphs (see losses.loss) until the time is up.

    The graphs must have their neighbour lists. Stops by itself; the caller may stop earlier.

    Raises:
        ValueError: the loss became NaN or infinite.
    """
    optimizer = torch.optim.Adam(potential.parameters(), lr=config.learning_rate, amsgrad=True)
    averaged = copy.deepcopy(potential).requires_grad_(False)
    generator = torch.Generator().manual_seed(config.seed)
    start, number, epoch = time.monotonic(), 0, 0
    while True:
        for graph in batches(graphs, config.batch_atoms, generator):
            elapsed = (time.monotonic() - start) / 60
            if elapsed >= config.minutes:
                return
            rate = config.learning_rate * _schedule(elapsed / config.minutes, config.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            value = _step(potential, optimizer, graph, config)
            _update_average(averaged, potential, min(config.ema_decay, (1 + number) / (10 + number)))
            number += 1
            yield Step(number, epoch, elapsed, rate, value, averaged)
        epoch += 1


def _schedule(progress: float, warmup: float) -> float:
    return min(progress / warmup + 1e-3, 1.0) * 0.5 * (1 + math.cos(math.pi * progress))


def _step(potential: Potential, optimizer: torch.optim.Optimizer, graph: AtomicGraph, config: TrainingConfig) -> float:
    weights = config.weights
    prediction = evaluate(potential, graph, weights.forces > 0, weights.stress > 0, create_graph=True)
    value = loss(prediction, graph, weights)
    if not torch.isfinite(value):
        raise ValueError(f"the loss became {value.item()}; lower the learning rate or look for wrong labels")
    optimizer.zero_grad()
    value.backward()
    torch.nn.utils.clip_grad_norm_(potential.parameters(), config.clip)
    optimizer.step()
    return value.item()


@torch.no_grad()
def _update_average(averaged: Potential, potential: Potential, decay: float) -> None:
    for kept, new in zip(averaged.parameters(), potential.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def errors(potential: Potential, graphs: Sequence[AtomicGraph], batch_atoms: int = 2000) -> dict[str, float]:
    """Mean absolute and root mean square errors: energy (meV/atom), forces (meV/A), stress (meV/A^3) where labelled."""
    collected: dict[str, list[torch.Tensor]] = {"energy": [], "forces": [], "stress": []}
    for graph in batches(graphs, batch_atoms):
        with_stress = "stress" in graph.system_data
        prediction = evaluate(potential, graph, stress=with_stress)
        assert prediction.forces is not None
        collected["energy"].append((prediction.energy - graph.system_data["energy"]) / graph.atoms_per_system)
        collected["forces"].append((prediction.forces - graph.atom_data["forces"]).flatten())
        if prediction.stress is not None:
            difference = (prediction.stress - graph.system_data["stress"]).flatten()
            collected["stress"].append(difference[~torch.isnan(difference)])
    table = {}
    for name, parts in collected.items():
        if parts and sum(map(len, parts)):
            error = 1000 * torch.cat(parts)
            table[f"{name}_mae"] = error.abs().mean().item()
            table[f"{name}_rmse"] = error.square().mean().sqrt().item()
    return table
