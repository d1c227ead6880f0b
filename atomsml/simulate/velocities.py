"""Velocities to start from."""

from __future__ import annotations

from atomsml.simulate.random import Stream, atom_normals
from atomsml.simulate.schedules import Value, temperatures
from atomsml.simulate.state import State
from atomsml.units import KB


def draw_velocities(state: State, temperature: Value, seed: int) -> None:
    """Draw velocities from the Maxwell-Boltzmann distribution exp(-m v^2 / (2 kB T)) of what can move.

    Constraints are kept, and the centre of mass rests where nothing holds the atoms (`state.rest`). Without a
    thermostat a system that starts at a minimum settles near half of the temperature: the other half becomes
    potential energy.

    Args:
        temperature: K; a number, one for each structure, or a Schedule.
    """
    width = (KB * temperatures(temperature)(state)[state.batch] / state.masses).sqrt()
    state.velocities = state.moving(width[:, None] * atom_normals(state, seed, Stream.VELOCITIES))
