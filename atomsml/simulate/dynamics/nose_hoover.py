"""Constant temperature by a chain of thermostats that is part of the equations of motion: no noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.simulate.dynamics import chains
from atomsml.simulate.dynamics.integrator import Heat, Integrator, internal_time, kinetic_energy
from atomsml.simulate.dynamics.nve import drift, kick
from atomsml.simulate.model import Model
from atomsml.simulate.schedules import Value, temperatures
from atomsml.simulate.state import PerSystem, State
from atomsml.units import KB

# three second-order steps of these lengths make one of fourth order: Suzuki, Phys. Lett. A 146, 319 (1990); Yoshida,
# Phys. Lett. A 150, 262 (1990)
OUTER = 1 / (2 - 2 ** (1 / 3))
FOURTH_ORDER = (OUTER, 1 - 2 * OUTER, OUTER)
SLOW = 20  # time steps: a chain with such a thermostat time needs only second order


@dataclass(eq=False)
class Chain(Heat):
    """Also places and rates of the links, (systems, links)."""

    place: PerSystem
    rate: PerSystem


class NoseHoover(Integrator[Chain]):
    """Half a kick, half a drift, a Nose-Hoover chain over the whole step, half a drift, half a kick.

    The chain and its factorisation are those of Martyna et al. (chains.py); in the middle it is asked once per step,
    and positions are sampled better (Zhang et al., J. Phys. Chem. A 123, 6056 (2019)). Deterministic and reversible; a
    single stiff molecule needs Langevin's noise to be sampled well. Conserved is the energy with that of the chain,
    less the work of a temperature that changes from step to step.

    Args:
        timestep: fs.
        temperature: K; a number, one for each structure, or a Schedule.
        thermostat_time: fs, about the period with which the temperature swings.
        links: of the chain.
    """

    def __init__(self, timestep: float, temperature: Value, thermostat_time: float = 100.0, links: int = 3) -> None:
        self.dt = internal_time("timestep", timestep)
        self.temperature = temperatures(temperature)
        self.period = internal_time("thermostat_time", thermostat_time)
        self.links = links
        self.parts = (1.0,) if self.period >= SLOW * self.dt else FOURTH_ORDER

    def start(self, state: State) -> Chain:
        rest = chains.at_rest(state.cell, self.links)
        return Chain(torch.zeros_like(state.energy), rest, rest)

    def step(self, state: State, memory: Chain, model: Model) -> None:
        kt = KB * self.temperature(state)
        kick(state, self.dt / 2)
        drift(state, self.dt / 2)
        self._thermostat(state, memory, kt)
        drift(state, self.dt / 2)
        model(state)
        kick(state, self.dt / 2)
        state.step = state.step + 1
        memory.heat = memory.heat + self._energy(state, memory, KB * self.temperature(state) - kt)

    def _thermostat(self, state: State, memory: Chain, kt: Tensor) -> None:
        freedom = state.degrees_of_freedom
        ratio = 2 * kinetic_energy(state) / (freedom * kt)
        factor = torch.ones_like(ratio)
        for part in self.parts:
            memory.place, memory.rate, scale = chains.propagate(
                memory.place, memory.rate, ratio * factor.square(), freedom, self.period, part * self.dt
            )
            factor = factor * scale
        state.velocities = factor[state.batch, None] * state.velocities

    def _energy(self, state: State, memory: Chain, kt: Tensor) -> Tensor:
        return chains.energy(memory.place, memory.rate, state.degrees_of_freedom, kt, self.period)

    def conserved(self, state: State, memory: Chain) -> Tensor:
        chain = self._energy(state, memory, KB * self.temperature(state))
        return state.energy + kinetic_energy(state) + chain - memory.heat
