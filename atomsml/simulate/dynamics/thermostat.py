"""Thermostat: what integrators have in common that keep a temperature by random numbers."""

from __future__ import annotations

import math

from torch import Tensor

from atomsml.simulate.dynamics.integrator import Heat, Integrator, internal_time, kinetic_energy
from atomsml.simulate.schedules import Value, temperatures
from atomsml.simulate.state import State


class Thermostat(Integrator[Heat]):
    """Counts the heat that it puts in; the energy less this heat is conserved.

    Args:
        timestep: fs.
        temperature: K; a number, one for each structure, or a Schedule.
        thermostat_time: fs, after which `kept`, the part of what was before, has fallen to 1/e.
        seed: of the noise.
    """

    def __init__(self, timestep: float, temperature: Value, thermostat_time: float = 100.0, seed: int = 0) -> None:
        self.dt = internal_time("timestep", timestep)
        self.temperature = temperatures(temperature)
        self.kept = math.exp(-self.dt / internal_time("thermostat_time", thermostat_time))
        self.seed = seed

    def conserved(self, state: State, memory: Heat) -> Tensor:
        return state.energy + kinetic_energy(state) - memory.heat
