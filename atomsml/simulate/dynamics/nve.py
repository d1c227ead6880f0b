"""Constant energy: velocity Verlet."""

from __future__ import annotations

from torch import Tensor

from atomsml.simulate.dynamics.integrator import Integrator, internal_time, kinetic_energy
from atomsml.simulate.model import Model
from atomsml.simulate.state import NoMemory, State


class NVE(Integrator[NoMemory]):
    """Velocity Verlet: v += F / m dt / 2, x += v dt, v += F / m dt / 2 (Swope et al., J. Chem. Phys. 76, 637 (1982)).

    Args:
        timestep: fs.
    """

    def __init__(self, timestep: float) -> None:
        self.dt = internal_time("timestep", timestep)

    def start(self, state: State) -> NoMemory:
        return NoMemory()

    def step(self, state: State, memory: NoMemory, model: Model) -> None:
        kick(state, self.dt / 2)
        state.positions = state.positions + self.dt * state.velocities
        model(state)
        kick(state, self.dt / 2)
        state.step = state.step + 1

    def conserved(self, state: State, memory: NoMemory) -> Tensor:
        return state.energy + kinetic_energy(state)


def kick(state: State, time: float) -> None:
    """v += F / m t, in the directions that constraints leave; time in the internal unit."""
    state.velocities = state.velocities + time * state.moving(state.forces / state.masses[:, None])
