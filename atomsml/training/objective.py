"""The objective of a potential: its loss on a batch of labelled structures, in the stage that the run is in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, Prediction, evaluate
from atomsml.training.config import TrainingConfig
from atomsml.training.distributed import World
from atomsml.training.loop import TrainingState
from atomsml.training.losses import TERMS, LossConfig, loss_sums


class PotentialObjective:
    """Loss and gradients are those of the whole batch of all processes; each brings its share, or None.

    `stress` says whether any structure has a stress label, which otherwise would be computed for nothing.
    """

    def __init__(self, config: TrainingConfig, stress: bool = False, world: World | None = None) -> None:
        self.config, self.stress, self.world = config, stress, world or World()

    def __call__(self, state: TrainingState[Potential], batch: AtomicGraph | None, done: float) -> float:
        potential, loss = state.model, loss_at(stage_at(done, self.config), self.config)
        device = potential.references.device
        if batch is None:
            sums = counts = torch.zeros(len(TERMS), dtype=torch.float64, device=device)
        else:
            graph = batch.to(device)
            prediction = predict_for_loss(potential, graph, loss, self.stress, self.config.precision, create_graph=True)
            sums, counts = loss_sums(prediction, graph, loss)
        counts = self.world.add(counts.clone())
        total = (sums / counts.clamp(min=1)).sum()
        if batch is not None:
            # of the weights alone: those of the positions, which forces have asked for, would be computed for nothing
            torch.autograd.backward(total, inputs=[p for p in potential.parameters() if p.requires_grad])
        self.world.add_gradients(potential.parameters())
        return self.world.add(total.detach().clone()).item()


def stage_at(done: float, config: TrainingConfig) -> int:
    start = config.stage_two.start
    return 2 if start is not None and done >= start else 1


def loss_at(stage: int, config: TrainingConfig) -> LossConfig:
    """The loss of the first stage, or with the weights of the second; where only charges are trained, theirs alone."""
    if config.finetune.only_charges:
        return replace(config.loss, energy=0.0, forces=0.0, stress=0.0)
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
