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
exactly and the rest grows to fit (tasks.py). The loss is that of matching.py. Bonds are not generated: they are
predicted, and handed to the next step together with the positions, which makes the geometry agree with one assignment
of bonds.
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

from atomsml.generative.molecules.flow.matching import grid_sampler, matching_loss, place
from atomsml.generative.molecules.flow.network import MoleculeNetwork
from atomsml.generative.molecules.flow.tasks import (
    UNIT,
    UnitedMolecules,
    hydrogen_task,
    known_parts,
    skeleton_task,
    unite,
)
from atomsml.generative.molecules.flow.united_atoms import KINDS, MOST_HYDROGENS, UnitedAtoms, count_sets, parents
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold, padded
from atomsml.generative.molecules.set import MoleculeSet

CONDITIONED, TOLD = 0.5, 0.6  # of the molecules are trained with conditions; of these each is told so often
HYDROGEN_SHARE = 4  # the hydrogens learn from every fourth molecule: they cost more and are easier
HYDROGEN_STEPS = 50  # at most: more change nothing


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
        check_elements(self.elements)
        for name in ("num_formulas", "num_sets"):
            if not 0 <= getattr(self, name) <= 10**6:
                raise ValueError(f"{name} must lie in 0 ... 1000000, got {reprlib.repr(getattr(self, name))}")
        if self.extra_dimensions is not None and not self.extra_dimensions > 0:
            raise ValueError(f"extra_dimensions must be positive, or null, got {self.extra_dimensions}")


def check_elements(elements: Sequence[int]) -> None:
    """Refuse elements among which hydrogen is not the first, or the only one.

    Raises:
        ValueError: says so.
    """
    if list(elements) != sorted(set(elements)) or len(elements) < 2 or elements[0] != 1 or elements[-1] > 118:
        raise ValueError(
            "elements must ascend from 1, hydrogen, to at most 118, with a heavy one; "
            f"got {reprlib.repr(list(elements))}"
        )


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
        self.skeleton = MoleculeNetwork(num_types, len(config.conditions), 1, True, **asdict(config.skeleton))
        self.hydrogens = MoleculeNetwork(num_types, 0, 1, True, **asdict(config.hydrogens))
        self.register_buffer("sets", torch.zeros(config.num_sets, self.hydrogen, dtype=torch.int32))
        self.register_buffer("set_counts", torch.zeros(config.num_sets, dtype=torch.int32))

    def loss(self, batch: Molecules, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        united = unite(batch, self.heavy)
        conditions = self.normalised_conditions(batch.conditions, len(batch))
        told = (rng.random((len(batch), 1)) < CONDITIONED) & (rng.random(tuple(conditions.shape)) < TOLD)
        conditions = torch.where(torch.from_numpy(told).to(conditions.device), conditions, torch.nan)
        task = skeleton_task(united, known_parts(united, rng), conditions)
        loss = matching_loss(self.skeleton, task, united.bonds, rng, self.config.extra_dimensions)
        some = torch.nonzero(united.num_atoms > united.num_heavy).flatten()[::HYDROGEN_SHARE]
        if len(some) == 0:
            return loss
        placing = hydrogen_task(united.select(some))
        return loss + matching_loss(self.hydrogens, placing, None, rng, self.config.extra_dimensions).mean()

    @torch.no_grad()
    def sample(
        self,
        requests: Sequence[Request],
        steps: int,
        sampler: str = "ddpm",
        scaffold: Scaffold | None = None,
        guidance: float = 1.0,
    ) -> Iterator[Molecules]:
        algorithm = grid_sampler(sampler)
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
