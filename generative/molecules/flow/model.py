"""Flow matching for molecules: united atoms, then their skeleton, then its hydrogens.

    p(molecule) = p(united atoms) p(skeleton | united atoms) p(hydrogens | skeleton)

The first factor is the histogram of the training set (united_atoms.py); the other two are flows along the straight
lines x_t = (1 - t) x_0 + t x_1 from data x_0 to noise x_1. Flow matching regresses their velocity x_1 - x_0 (Lipman et
al., arXiv:2210.02747; Liu et al., arXiv:2209.03003; Albergo and Vanden-Eijnden, arXiv:2209.15571; of molecules Song et
al., "EquiFM", arXiv:2312.07168). These networks predict the data x_0, from which the velocity follows, as those of
Irwin et al. do ("SemlaFlow", arXiv:2406.07266):

| | skeleton | hydrogens |
|---|---|---|
| what moves | heavy atoms | hydrogens, relative to the heavy atoms that carry them |
| noise x_1 | normal, about the centre of the skeleton or scaffold | normal, about the heavy atom |
| paired with x_0 by | equivariant optimal transport | the same, among the hydrogens of one heavy atom |
| known from the start | a scaffold, if there is one | the skeleton |

The skeleton's network is trained on a connected part of a molecule for some of its samples, so that a scaffold is held
exactly and the rest grows to fit. With u uniform and t = 1 - sqrt(u), so that small t are seen most, the loss is

    |x - x_0|^2 / (t^2 + SHARPNESS^2) + error of near distances + cross entropy of the bonds

Bonds are not generated: they are predicted, and handed to the next step together with x (self-conditioning, Chen et
al., arXiv:2208.04202), which makes the geometry agree with one assignment of bonds.
"""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atomsml.generative.core.fields import Field, Predict, State, prior
from atomsml.generative.core.guidance import classifier_free
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import Flow
from atomsml.generative.core.processes.gaussian import LinearInterpolant
from atomsml.generative.core.processes.pfgm import PFGMPlusPlus
from atomsml.generative.core.samplers import SAMPLERS, find_sampler
from atomsml.generative.core.samplers.base import GridSampler, Sampler, time_grid
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean
from atomsml.generative.molecules.flow.network import Guess, MoleculeNetwork, pair_distances
from atomsml.generative.molecules.flow.optimal_transport import nearest_noise
from atomsml.generative.molecules.flow.tasks import (
    UNIT,
    Task,
    UnitedMolecules,
    hydrogen_task,
    random_part,
    skeleton_task,
    unite,
)
from atomsml.generative.molecules.flow.united_atoms import KINDS, MOST_HYDROGENS, UnitedAtoms, count_sets, parents
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold, padded
from atomsml.generative.molecules.set import MoleculeSet

SHARPNESS = 0.04
POSITION_WEIGHT, BOND_WEIGHT = 0.3, 0.2
NEAR = 2.8 / UNIT  # bonds and angles
FINE = 0.02  # Angstrom: below it errors of near distances count by their squares
KNOWN = 0.1  # of the molecules are trained with a part known
CONDITIONED, TOLD = 0.5, 0.6  # of the molecules are trained with conditions; of these each is told so often
HYDROGEN_SHARE = 4  # the hydrogens learn from every fourth molecule: they cost more and are easier
HYDROGEN_STEPS = 50  # at most: more change nothing
TIME_POWER = 1.5  # t = (1 - i / steps)^power: small steps where the geometry is settled


@dataclass(frozen=True)
class NetworkConfig:
    """Widths of a MoleculeNetwork."""

    channels: int
    pair_channels: int  # a multiple of the number of gates, 8
    vectors: int
    hidden: int
    num_layers: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value <= 4096:
                raise ValueError(f"{name} must lie in 1 ... 4096, got {reprlib.repr(value)}")
        if self.pair_channels % 8:
            raise ValueError(f"pair_channels must be a multiple of 8, the number of gates; got {self.pair_channels}")


@dataclass(frozen=True)
class MoleculeFlowConfig:
    """Hyperparameters of the flow."""

    elements: tuple[int, ...]  # atomic numbers, ascending; hydrogen first
    conditions: tuple[str, ...] = ()  # properties that may be asked for
    num_formulas: int = 0  # of the training set: sizes of tables
    num_sets: int = 0  # distinct sets of united atoms
    skeleton: NetworkConfig = field(default_factory=lambda: NetworkConfig(128, 64, 16, 256, 6))
    hydrogens: NetworkConfig = field(default_factory=lambda: NetworkConfig(64, 48, 8, 128, 4))
    extra_dimensions: float | None = None  # D of PFGM++ (arXiv:2302.04265), for noise with heavy tails; null: normal

    def __post_init__(self) -> None:
        elements = list(self.elements)
        if elements != sorted(set(elements)) or len(elements) < 2 or elements[0] != 1 or elements[-1] > 118:
            raise ValueError(
                f"elements must ascend from 1, hydrogen, to at most 118, with a heavy one; got {reprlib.repr(elements)}"
            )
        for name in ("num_formulas", "num_sets"):
            if not 0 <= getattr(self, name) <= 10**6:
                raise ValueError(f"{name} must lie in 0 ... 1000000, got {reprlib.repr(getattr(self, name))}")
        if self.extra_dimensions is not None and not self.extra_dimensions > 0:
            raise ValueError(f"extra_dimensions must be positive, or null, got {self.extra_dimensions}")


class MoleculeFlow(MoleculeModel):
    """The generator of the module docstring.

    | buffer | shape | meaning |
    |---|---|---|
    | sets | (sets, types but hydrogen) | united atoms of the training molecules |
    | set_counts | (sets,) | how many molecules have each |
    """

    Config = MoleculeFlowConfig
    default_sampler, default_steps = "ddpm", 50  # fresh noise in each step corrects what earlier ones did wrong
    draws_elements = False
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {},
        "medium": {
            "skeleton": NetworkConfig(256, 128, 32, 512, 8),
            "hydrogens": NetworkConfig(128, 64, 16, 256, 4),
        },
    }
    config: MoleculeFlowConfig
    sets: Tensor
    set_counts: Tensor

    def __init__(self, config: MoleculeFlowConfig) -> None:
        super().__init__(config)
        if config.extra_dimensions is not None:
            self.default_sampler = "heun"  # ancestral steps assume normal noise
        self.heavy = config.elements[1:]
        self.hydrogen = len(self.heavy) * KINDS  # the last type
        num_types = self.hydrogen + 1
        self.skeleton = MoleculeNetwork(num_types, len(config.conditions), **asdict(config.skeleton))
        self.hydrogens = MoleculeNetwork(num_types, 0, **asdict(config.hydrogens))
        self.register_buffer("sets", torch.zeros(config.num_sets, self.hydrogen, dtype=torch.int32))
        self.register_buffer("set_counts", torch.zeros(config.num_sets, dtype=torch.int32))

    def loss(self, batch: Molecules, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        united = unite(batch, self.heavy)
        conditions = self.normalised_conditions(batch.conditions, len(batch))
        told = (rng.random((len(batch), 1)) < CONDITIONED) & (rng.random(tuple(conditions.shape)) < TOLD)
        conditions = torch.where(torch.from_numpy(told).to(conditions.device), conditions, torch.nan)
        task = skeleton_task(united, _parts(united, rng), conditions)
        loss = _loss(self.skeleton, task, united.bonds, rng, self.config.extra_dimensions)
        some = torch.nonzero(united.num_atoms > united.num_heavy).flatten()[::HYDROGEN_SHARE]
        if len(some) == 0:
            return loss
        placing = hydrogen_task(united.select(some))
        return loss + _loss(self.hydrogens, placing, None, rng, self.config.extra_dimensions).mean()

    @torch.no_grad()
    def sample(
        self,
        requests: Sequence[Request],
        steps: int,
        sampler: str = "ddpm",
        scaffold: Scaffold | None = None,
        guidance: float = 1.0,
    ) -> Iterator[Molecules]:
        algorithm = find_sampler(sampler)
        if not isinstance(algorithm, GridSampler):  # samples that wait for others would go on guessing
            fixed = ", ".join(name for name, each in SAMPLERS.items() if issubclass(each, GridSampler))
            raise ValueError(
                f"the sampler {sampler!r} chooses its steps, which self-conditioning rules out; take one of: {fixed}"
            )
        united, numbers = self.compose(requests, scaffold)
        conditions = self.conditions_of(requests)
        known = torch.zeros_like(united.mask)
        if scaffold is not None:
            known[:, : len(scaffold.numbers)] = True
        task = skeleton_task(united, known, self.normalised_conditions(conditions, len(requests)))
        nodes = task.places.shape[1]
        seeds, tails = [request.seed for request in requests], self.config.extra_dimensions
        for x in place(self.skeleton, task, seeds, steps, algorithm, guidance, tails):
            united = replace(united, positions=torch.cat([x, united.positions[:, nodes:]], dim=1))
            yield Molecules(torch.where(united.is_heavy, numbers, 0), united.positions * UNIT)
        seeds, steps = [seed + 1 for seed in seeds], min(steps, HYDROGEN_STEPS)
        for x in place(self.hydrogens, hydrogen_task(united), seeds, steps, algorithm, 1.0, tails):
            yield Molecules(numbers, x * UNIT, None, conditions)

    def num_states(self, steps: int, sampler: str) -> int | None:
        states = super().num_states(steps, sampler)
        return None if states is None else states + min(states, HYDROGEN_STEPS)

    @classmethod
    def measure(cls, samples: MoleculeSet) -> dict[str, Any]:
        sets, _ = _sets(samples)
        return {**super().measure(samples), "num_sets": len(sets)}

    @classmethod
    def check(cls, train: MoleculeSet, valid: MoleculeSet) -> list[str]:
        for name, molecules in (("training", train), ("validation", valid)):
            try:
                _sets(molecules)
            except ValueError as error:
                raise ValueError(f"the {name} set: {error}") from None
        warnings = super().check(train, valid)
        if not train.bonds_known.any():
            warnings.append("without bonds a flow does not learn to grow scaffolds; an SDF file has them")
        return warnings

    def fit(self, samples: MoleculeSet) -> None:
        super().fit(samples)
        sets, counts = _sets(samples)
        self.sets.copy_(torch.from_numpy(sets))
        self.set_counts.copy_(torch.from_numpy(counts))

    def compose(self, requests: Sequence[Request], scaffold: Scaffold | None) -> tuple[UnitedMolecules, Tensor]:
        """United atoms of every molecule, which have no positions but those of a scaffold; and atomic numbers."""
        draw = UnitedAtoms(self.heavy, self.sets.cpu().numpy(), self.set_counts.cpu().numpy()).draw
        most = () if scaffold is None else scaffold.hydrogens or (MOST_HYDROGENS,) * len(scaffold.numbers)
        types, parent, rows = [], [], []
        for request in requests:
            assert request.numbers is not None, "the composition comes with the request"
            if max(request.numbers) == 1:
                raise ValueError("a molecule of hydrogens alone has no skeleton; ask for a formula with a heavy atom")
            rows.append(request.numbers)
            carried, carriers = draw(request.numbers, most, np.random.default_rng([request.seed, 1]))
            heavy = [self.heavy.index(z) for z in request.numbers if z > 1]
            types.append(
                [
                    *(e * KINDS + h for e, h in zip(heavy, carried.tolist(), strict=True)),
                    *[self.hydrogen] * len(carriers),
                ]
            )
            parent.append([*[-1] * len(heavy), *carriers.tolist()])
        device = self.sets.device
        numbers = padded(rows).to(device)
        positions = torch.zeros(*numbers.shape, 3, dtype=self.condition_mean.dtype, device=device)
        if scaffold is not None:
            positions[:, : len(scaffold.numbers)] = scaffold.positions.to(positions) / UNIT
        united = UnitedMolecules(
            padded(types).to(device),
            padded(parent, -1).to(device),
            (numbers > 1).sum(dim=1),
            (numbers > 0).sum(dim=1),
            positions,
            None,
        )
        return united, numbers


def _sets(molecules: MoleculeSet) -> tuple[np.ndarray, np.ndarray]:
    """Distinct sets of united atoms, and how many molecules have each."""
    rows = []
    for start, stop in itertools.pairwise(molecules.offsets.tolist()):
        numbers = molecules.numbers[start:stop]
        try:
            rows.append((numbers, parents(numbers, molecules.positions[start:stop])))
        except ValueError as error:
            raise ValueError(f"{molecules.where(len(rows))}: {error}") from None
    return count_sets(rows, [z for z in molecules.elements if z > 1])


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
    fields = {"places": Field(space, _process(task, extra_dimensions))}
    told = _predict(network, task)
    blind = torch.full_like(task.atoms.conditions, torch.nan)
    untold = _predict(network, replace(task, atoms=replace(task.atoms, conditions=blind)))
    predict = classifier_free(told, untold, guidance, fields)
    places = task.origin
    noise = SampleNoise(seeds, task.atoms.mask.sum(dim=1).tolist(), places.shape[1], places.dtype, places.device)
    times = time_grid(steps, places.dtype, places.device) ** TIME_POWER
    for state in sampler.sample(predict, fields, prior(fields, noise), times, noise):
        yield task.positions(task.centre_free(state["places"])) + task.centre


def _process(task: Task, extra_dimensions: float | None) -> Flow:
    lines = LinearInterpolant(task.noise_scale)
    return lines if extra_dimensions is None else PFGMPlusPlus(extra_dimensions, lines)


def _predict(network: MoleculeNetwork, task: Task) -> Predict:
    """The network as a prediction of data, which remembers what it said last."""
    last: Guess | None = None

    def predict(state: State, t: Tensor) -> State:
        nonlocal last
        last = network(task.atoms, task.positions(state["places"]), t, last)
        return {"places": task.state(last.positions)}

    return predict


def _parts(united: UnitedMolecules, rng: np.random.Generator) -> Tensor:
    """(samples, nodes) bool: known atoms, of some of the samples."""
    known = torch.zeros_like(united.mask)
    if united.bonds is None:
        return known
    suited = (united.num_heavy > 2) & (united.bonds[:, 0, 0] >= 0)
    for row in np.flatnonzero((rng.random(len(known)) < KNOWN) & suited.cpu().numpy()):
        size = int(united.num_heavy[row])
        known[row, random_part(united.bonds[row, :size, :size].cpu().numpy(), rng)] = True
    return known


def _loss(
    network: MoleculeNetwork,
    task: Task,
    bonds: Tensor | None,
    rng: np.random.Generator,
    extra_dimensions: float | None,
) -> Tensor:
    """(samples,) of the module docstring, at random times with random noise."""
    data = task.state(task.places)
    noise = task.centre_free(torch.from_numpy(rng.standard_normal(data.shape)).to(data))
    noise = nearest_noise(noise.cpu(), (data / task.noise_scale).cpu(), task.groups.cpu(), task.centred.cpu()).to(data)
    time = 1 - torch.from_numpy(rng.random(len(data))).to(data).sqrt()
    process = _process(task, extra_dimensions)
    if isinstance(process, PFGMPlusPlus):  # which noise is nearest does not depend on its length
        noise = process.spread(noise, torch.from_numpy(rng.random(len(data))))
    noisy = task.positions(process.interpolate(Euclidean((3,)), data, noise, time))
    guess = None
    if rng.random() < 0.5:
        with torch.no_grad():
            guess = network(task.atoms, noisy, time, None)
    found = network(task.atoms, noisy, time, guess)
    wrong = (task.state(found.positions) - data).square().sum(dim=(1, 2)) / (3 * task.moving.sum(dim=1))
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
    if bonds is None:
        return loss
    bonds = bonds[:, :nodes, :nodes]
    pairs &= bonds >= 0
    logits = found.bonds.permute(0, 3, 1, 2)
    wrong = functional.cross_entropy(logits, bonds, ignore_index=-1, reduction="none") * pairs
    return loss + BOND_WEIGHT * wrong.sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)
