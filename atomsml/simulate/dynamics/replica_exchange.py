"""Replica exchange: systems on a ladder of temperatures, which they climb up and down."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from atomsml.simulate.dynamics.csvr import CSVR
from atomsml.simulate.dynamics.integrator import Heat, Integrator
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.nose_hoover import Chain, NoseHoover
from atomsml.simulate.model import Model
from atomsml.simulate.random import Stream, system_uniforms
from atomsml.simulate.state import State
from atomsml.units import KB

Memory = TypeVar("Memory", Heat, Chain)


class ReplicaExchange(Integrator[Memory]):
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

    def __init__(self, thermostat: Integrator[Memory], interval: int, seed: int = 0) -> None:
        if not isinstance(thermostat, Langevin | CSVR | NoseHoover):
            raise ValueError("replicas exchange temperatures under a thermostat: Langevin, CSVR or NoseHoover")
        self.thermostat: Integrator[Memory] = thermostat
        self.temperature = thermostat.temperature
        self.interval, self.seed = interval, seed

    def start(self, state: State) -> Memory:
        """
        Raises:
            ValueError: the systems of a ladder differ in atoms, cell or constraints.
        """
        for group in state.group.unique():
            systems = (state.group == group).nonzero().flatten()
            first, *others = (state.systems(system) for system in systems.split(1))
            for name in ("numbers", "masses", "free", "cell", "pbc"):
                if not all(torch.equal(getattr(first, name), getattr(other, name)) for other in others):
                    raise ValueError(f"{name} of the systems of ladder {int(group)} differ; only positions may")
        return self.thermostat.start(state)

    def step(self, state: State, memory: Memory, model: Model) -> None:
        self._swap(state, memory)
        self.thermostat.step(state, memory, model)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return self.thermostat.conserved(state, memory)

    def _swap(self, state: State, memory: Memory) -> None:
        before, conserved = self.temperature(state), self.conserved(state, memory)
        state.index = self._swapped(state)
        ratio = self.temperature(state) / before
        state.velocities = ratio.sqrt()[state.batch, None] * state.velocities
        memory.heat = memory.heat + self.conserved(state, memory) - conserved

    def _swapped(self, state: State) -> Tensor:
        """(systems,) the numbers that the systems have next."""
        order = state.index.argsort()
        order = order[state.group[order].argsort(stable=True)]  # by ladder, then by rung
        group, index, step = state.group[order], state.index[order], state.step[order]
        here = torch.arange(len(order), device=state.device)
        above = (here + 1).clamp(max=len(order) - 1)
        turn = (here - torch.searchsorted(group, group) + step // self.interval) % 2 == 0
        paired = turn & (group[above] == group) & (above > here) & (step > 0) & (step % self.interval == 0)
        beta, energy = 1 / (KB * self.temperature(state)[order]), state.energy[order]
        gain = (beta - beta[above]) * (energy - energy[above])
        accepted = paired & (system_uniforms(state, self.seed, Stream.EXCHANGE)[order, 0].log() < gain)
        below = accepted.roll(1)  # the last is never accepted
        found = torch.empty_like(state.index)
        found[order] = torch.where(accepted, index[above], torch.where(below, index.roll(1), index))
        return found
