"""Flow matching of a task (tasks.py): the loss of a network, and the atoms that it places.

With data y_0 and noise y_1, states of the task, y_t = (1 - t) y_0 + t y_1. With u uniform and t = 1 - sqrt(u), so that
small t are seen most, the loss of what the network says about the positions x, given those of y_t, is

    |x - x_0|^2 / (t^2 + SHARPNESS^2) + error of near distances + cross entropy of the bonds, if it predicts them

What was said is handed to the next step (self-conditioning, Chen et al., arXiv:2208.04202).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atomsml.generative.core.fields import Field, Predict, State, prior
from atomsml.generative.core.guidance import classifier_free
from atomsml.generative.core.network_inputs import pair_distances
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import Flow
from atomsml.generative.core.processes.gaussian import LinearInterpolant
from atomsml.generative.core.processes.pfgm import PFGMPlusPlus
from atomsml.generative.core.samplers import SAMPLERS, find_sampler
from atomsml.generative.core.samplers.base import GridSampler, Sampler, time_grid
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean
from atomsml.generative.molecules.flow.network import Guess, MoleculeNetwork
from atomsml.generative.molecules.flow.optimal_transport import nearest_noise
from atomsml.generative.molecules.flow.tasks import UNIT, Task

SHARPNESS = 0.04
POSITION_WEIGHT, BOND_WEIGHT = 0.3, 0.2
NEAR = 2.8 / UNIT  # bonds and angles
FINE = 0.02  # Angstrom: below it errors of near distances count by their squares
TIME_POWER = 1.5  # t = (1 - i / steps)^power: small steps where the geometry is settled


def grid_sampler(name: str) -> GridSampler:
    """The sampler of a name, if its steps are given: samples that wait for others would go on guessing.

    Raises:
        ValueError: it chooses its steps.
    """
    algorithm = find_sampler(name)
    if not isinstance(algorithm, GridSampler):
        fixed = ", ".join(name for name, each in SAMPLERS.items() if issubclass(each, GridSampler))
        raise ValueError(
            f"the sampler {name!r} chooses its steps, which self-conditioning rules out; take one of: {fixed}"
        )
    return algorithm


def place(
    network: MoleculeNetwork,
    task: Task,
    seeds: Sequence[int],
    steps: int,
    sampler: Sampler,
    guidance: float,
    extra_dimensions: float | None = None,
) -> Iterator[Tensor]:
    """Positions of all atoms (samples, nodes, 3) after every step, in the frame of the molecule."""
    space = CenteredPositions() if bool(task.centred.all()) else Euclidean((3,))
    fields = {"places": Field(space, _process(extra_dimensions))}
    told = _predict(network, task)
    blind = torch.full_like(task.atoms.conditions, torch.nan)
    untold = _predict(network, replace(task, atoms=replace(task.atoms, conditions=blind)))
    predict = classifier_free(told, untold, guidance, fields)
    x = task.origin
    noise = SampleNoise(seeds, task.atoms.mask.sum(dim=1).tolist(), x.shape[1], x.dtype, x.device)
    times = time_grid(steps, x.dtype, x.device) ** TIME_POWER
    for state in sampler.sample(predict, fields, prior(fields, noise), times, noise):
        yield task.positions(state["places"]) + task.centre


def _process(extra_dimensions: float | None) -> Flow:
    lines = LinearInterpolant()
    return lines if extra_dimensions is None else PFGMPlusPlus(extra_dimensions, lines)


def _predict(network: MoleculeNetwork, task: Task) -> Predict:
    """The network as a prediction of data, which remembers what it said last."""
    last: Guess | None = None

    def predict(state: State, t: Tensor) -> State:
        nonlocal last
        last = network(task.atoms, task.positions(state["places"]), t, last)
        return {"places": task.state(last.positions)}

    return predict


def matching_loss(
    network: MoleculeNetwork,
    task: Task,
    bonds: Tensor | None,
    rng: np.random.Generator,
    extra_dimensions: float | None = None,
) -> Tensor:
    """(samples,) of the module docstring, at random times with random noise; `bonds` are what is to be predicted."""
    data = task.state(task.places)
    noise = task.free(torch.from_numpy(rng.standard_normal(data.shape)).to(data))
    noise = nearest_noise(noise.cpu(), data.cpu(), task.groups.cpu(), task.centred.cpu()).to(data)
    time = 1 - torch.from_numpy(rng.random(len(data))).to(data).sqrt()
    process = _process(extra_dimensions)
    if isinstance(process, PFGMPlusPlus):  # which noise is nearest does not depend on its length
        noise = process.spread(noise, torch.from_numpy(rng.random(len(data))))
    noisy = task.positions(process.interpolate(Euclidean((3,)), data, noise, time))
    guess = None
    if rng.random() < 0.5:
        with torch.no_grad():
            guess = network(task.atoms, noisy, time, None)
    found = network(task.atoms, noisy, time, guess)
    wrong = task.free(found.positions - task.places).square().sum(dim=(1, 2)) / (3 * task.moving.sum(dim=1))
    loss = POSITION_WEIGHT / (time.square() + SHARPNESS**2) * wrong
    return loss + _pair_loss(task, found, bonds)


def _pair_loss(task: Task, found: Guess, bonds: Tensor | None) -> Tensor:
    """(samples,) errors of near distances, Angstrom, and of the bonds; each a mean over pairs that are to be placed."""
    mask, known = task.atoms.mask, task.atoms.known
    nodes = mask.shape[1]
    pairs = mask[:, :, None] & mask[:, None] & ~(known[:, :, None] & known[:, None])
    pairs &= ~torch.eye(nodes, dtype=torch.bool, device=mask.device)
    true, near = pair_distances(task.places), pairs.to(found.positions)
    near = near * (true < NEAR)
    wrong = functional.smooth_l1_loss(UNIT * pair_distances(found.positions), UNIT * true, reduction="none", beta=FINE)
    loss = (wrong * near).sum(dim=(1, 2)) / near.sum(dim=(1, 2)).clamp(min=1)
    if bonds is None or found.bonds is None:
        return loss
    bonds = bonds[:, :nodes, :nodes]
    pairs &= bonds >= 0
    logits = found.bonds.permute(0, 3, 1, 2)
    wrong = functional.cross_entropy(logits, bonds, ignore_index=-1, reduction="none") * pairs
    return loss + BOND_WEIGHT * wrong.sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)
