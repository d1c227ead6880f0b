"""Constant temperature by friction and noise on every atom."""

from __future__ import annotations

import torch

from atomsml.simulate.dynamics.integrator import Heat
from atomsml.simulate.dynamics.nve import drift, kick
from atomsml.simulate.dynamics.thermostat import Thermostat
from atomsml.simulate.model import Model
from atomsml.simulate.random import Stream, atom_normals
from atomsml.simulate.state import State, total
from atomsml.units import KB


class Langevin(Thermostat):
    """m dv = F dt - m v / tau dt + sqrt(2 m kB T / tau) dW, where tau is the thermostat time.

    In the BAOAB splitting (Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013), section II): half a kick, half
    a drift, friction and noise over the whole step, which are exact, half a drift, half a kick. Every degree of freedom
    has its own thermostat, so that stiff and small systems, a single molecule above all, reach equipartition, which a
    global rescaling of velocities does not ensure; and for harmonic modes the finite time step leaves averages over
    positions exact. Conserved is the energy less the heat that the thermostat put in (Bussi and Parrinello, Phys. Rev.
    E 75, 056707 (2007)).

    Args:
        timestep: fs.
        temperature: K; a number, one for each structure, or a Schedule.
        thermostat_time: fs, after which a momentum is forgotten: the inverse friction.
        seed: of the noise.
    """

    def start(self, state: State) -> Heat:
        """Noise turns every open system."""
        state.still = torch.zeros_like(state.still)
        return Heat(torch.zeros_like(state.energy))

    def step(self, state: State, memory: Heat, model: Model) -> None:
        kick(state, self.dt / 2)
        drift(state, self.dt / 2)
        width = ((1 - self.kept**2) * KB * self.temperature(state)[state.batch] / state.masses).sqrt()
        noise = width[:, None] * atom_normals(state, self.seed, Stream.LANGEVIN)
        before, state.velocities = state.velocities, state.moving(self.kept * state.velocities + noise)
        gained = 0.5 * state.masses * (state.velocities.square() - before.square()).sum(dim=1)
        memory.heat = memory.heat + total(gained, state.batch, state.num_systems)
        drift(state, self.dt / 2)
        model(state)
        kick(state, self.dt / 2)
        state.step = state.step + 1
