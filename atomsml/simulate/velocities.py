"""Velocities to start from."""

from __future__ import annotations

import torch

from atomsml.simulate.random import Stream, atom_normals
from atomsml.simulate.schedules import Value, temperatures
from atomsml.simulate.state import State, total
from atomsml.units import KB

LINEAR = 1e-6  # smallest over largest moment of inertia of a molecule that is not linear


def draw_velocities(state: State, temperature: Value, seed: int, turning: bool = True) -> None:
    """Draw velocities from the Maxwell-Boltzmann distribution exp(-m v^2 / (2 kB T)) of what can move.

    Constraints are kept, and the centre of mass rests where nothing holds the atoms (`state.rest`). Without a
    thermostat a system that starts at a minimum settles near half of the temperature: the other half becomes
    potential energy.

    Args:
        temperature: K; a number, one for each structure, or a Schedule.
        turning: whether open systems turn. Those that do not, because nothing holds their atoms either, keep an angular
            momentum of zero unless noise on every atom, as Langevin's, sets them turning. Until then temperatures do
            not count these degrees of freedom.
    """
    width = (KB * temperatures(temperature)(state)[state.batch] / state.masses).sqrt()
    state.velocities = state.moving(width[:, None] * atom_normals(state, seed, Stream.VELOCITIES))
    state.still = torch.zeros_like(state.still)
    if not turning:
        _stop_turning(state)


def _stop_turning(state: State) -> None:
    """Take the angular momentum from open systems of which nothing is held, as a rigid body would have it."""
    systems, masses = state.num_systems, state.masses[:, None]
    centre = total(masses * state.positions, state.batch, systems) / total(masses, state.batch, systems)
    arm = state.positions - centre[state.batch]
    momentum = total(masses * torch.linalg.cross(arm, state.velocities), state.batch, systems)
    outer = arm[:, :, None] * arm[:, None, :]
    square = arm.square().sum(dim=1)[:, None, None] * torch.eye(3, dtype=arm.dtype, device=arm.device)
    inertia = total(masses[:, :, None] * (square - outer), state.batch, systems)
    open_ = ~state.pbc.any(dim=1) & (state.rest.diagonal(dim1=1, dim2=2).sum(dim=1) > 2.5)
    spin = (torch.linalg.pinv(inertia, rtol=LINEAR, hermitian=True) @ momentum[:, :, None])[:, :, 0]
    spin = torch.where(open_[:, None], spin, 0)
    state.velocities = state.velocities - torch.linalg.cross(spin[state.batch], arm)
    axes = torch.linalg.matrix_rank(inertia, rtol=LINEAR, hermitian=True)
    state.still = torch.where(open_, axes, 0).to(state.still)
