"""Constant energy: velocity Verlet."""

from __future__ import annotations

from torch import Tensor

from atomsml.simulate.dynamics.integrator import Integrator, internal_time, kinetic_energy
from atomsml.simulate.model import Model
from atomsml.simulate.rigid import along_bonds, drifted
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
        drift(state, self.dt)
        model(state)
        kick(state, self.dt / 2)
        state.step = state.step + 1

    def conserved(self, state: State, memory: NoMemory) -> Tensor:
        return state.energy + kinetic_energy(state)


def drift(state: State, time: float) -> None:
    """x += v t; time in the internal unit. Bonds that are rigid turn the velocities of their atoms."""
    if not state.has_rigid_bonds:
        state.positions = state.positions + time * state.velocities
        return
    before = state.positions
    state.positions = drifted(before, state.velocities, state.masses, state.ends, state.lengths, time)
    state.velocities = along_bonds((state.positions - before) / time, state.positions, state.masses, state.ends)


def kick(state: State, time: float) -> None:
    """v += F / m t, in the directions that constraints leave; time in the internal unit."""
    state.velocities = state.velocities + time * state.moving(state.forces / state.masses[:, None])
