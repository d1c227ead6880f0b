"""Replica exchange: systems on a ladder of temperatures, which they climb up and down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomsml.simulate.dynamics.csvr import CSVR
from atomsml.simulate.dynamics.integrator import Heat, Integrator
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.nose_hoover import Chain, NoseHoover
from atomsml.simulate.model import Model
from atomsml.simulate.random import Stream, system_uniforms
from atomsml.simulate.state import PerSystem, State
from atomsml.units import KB


@dataclass(eq=False)
class Ladder(Heat):
    """What is remembered beside the heat of the thermostat.

    replica: (systems,) the rung on which a system began, which is its name on the way.
    tried, swapped: (systems,) how often the rung where it is now and the next above tried to swap, and did.
    """

    replica: PerSystem
    tried: PerSystem
    swapped: PerSystem


@dataclass(eq=False)
class LadderOfChains(Ladder, Chain):
    """The same with a chain of thermostats."""


class ReplicaExchange(Integrator[Ladder]):
    """A thermostat under which neighbours of a ladder swap temperatures, with the probability

        min(1, exp((1 / kT_i - 1 / kT_j) (U_i - U_j)))

    which leaves every rung its Boltzmann distribution (Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999));
    velocities are scaled by the root of the ratio of the temperatures. Pairs (0, 1), (2, 3), ... and (1, 2), (3, 4),
    ... take turns. The systems of a ladder are those of one `state.group`, in the order of `state.index`:

        state = State.of([atoms] * 4)
        state.group[:] = 0
        ladder = ReplicaExchange(Langevin(1.0, [300.0, 360.0, 430.0, 520.0]), interval=100)
        for frame in md(state, model, ladder, steps=100000, every=100, temperature=[300.0, 360.0, 430.0, 520.0]):
            ...

    Whoever swaps temperatures swaps numbers as well: `state.index` is the rung, so that structure i of a run always
    has temperature i, and the rows of a state climb. What a swap does to the conserved energy of a row is taken off.

    Args:
        thermostat: with the temperature of each structure.
        interval: steps between attempts.
        seed: of the attempts.
    """

    def __init__(self, thermostat: Integrator[Any], interval: int, seed: int = 0) -> None:
        if not isinstance(thermostat, Langevin | CSVR | NoseHoover):
            raise ValueError("replicas exchange temperatures under a thermostat: Langevin, CSVR or NoseHoover")
        self.thermostat: Integrator[Any] = thermostat
        self.temperature = thermostat.temperature
        self.interval, self.seed = interval, seed

    def start(self, state: State) -> Ladder:
        """
        Raises:
            ValueError: the systems of a ladder differ in atoms, cell or constraints.
        """
        for group in state.group.unique():
            systems = (state.group == group).nonzero().flatten()
            first, *others = (state.systems(system) for system in systems.split(1))
            for name in ("numbers", "masses", "free", "ends", "lengths", "cell", "pbc"):
                if not all(torch.equal(getattr(first, name), getattr(other, name)) for other in others):
                    raise ValueError(f"{name} of the systems of ladder {int(group)} differ; only positions may")
        begun = self.thermostat.start(state)
        kind = LadderOfChains if isinstance(begun, Chain) else Ladder
        none = torch.zeros_like(state.index)
        return kind(
            **{name: getattr(begun, name) for name in begun.levels}, replica=state.index, tried=none, swapped=none
        )

    def step(self, state: State, memory: Ladder, model: Model) -> None:
        self._swap(state, memory)
        self.thermostat.step(state, memory, model)

    def conserved(self, state: State, memory: Ladder) -> Tensor:
        return self.thermostat.conserved(state, memory)

    def _swap(self, state: State, memory: Ladder) -> None:
        before, conserved = self.temperature(state), self.conserved(state, memory)
        self._climb(state, memory)
        ratio = self.temperature(state) / before
        state.velocities = ratio.sqrt()[state.batch, None] * state.velocities
        memory.heat = memory.heat + self.conserved(state, memory) - conserved

    def _climb(self, state: State, memory: Ladder) -> None:
        """Give systems the numbers that they have next, and rungs their counts."""
        order = state.index.argsort()
        order = order[state.group[order].argsort(stable=True)]  # by ladder, then by rung
        group, index, step = state.group[order], state.index[order], state.step[order]
        here = torch.arange(len(order), device=state.device)
        above = (here + 1).clamp(max=len(order) - 1)
        turn = (here - torch.searchsorted(group, group) + step // self.interval) % 2 == 0
        tries = turn & (group[above] == group) & (above > here) & (step > 0) & (step % self.interval == 0)
        beta, energy = 1 / (KB * self.temperature(state)[order]), state.energy[order]
        gain = (beta - beta[above]) * (energy - energy[above])
        accepted = tries & (system_uniforms(state, self.seed, Stream.EXCHANGE)[order, 0].log() < gain)
        place = here + accepted.long() - accepted.roll(1).long()  # the last is never accepted
        tried, swapped = memory.tried[order] + tries, memory.swapped[order] + accepted
        rows = order.argsort()
        state.index, memory.tried, memory.swapped = index[place][rows], tried[place][rows], swapped[place][rows]
