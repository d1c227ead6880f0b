"""What a relaxation remembers of the systems on their way, and how it moves and judges them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.simulate.cell import Coordinates
from atomsml.simulate.optimizers.optimizer import Optimizer
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, PerSystem, State
from atomsml.units import GPA

# eV: forces vanish at saddle points as well, to which a step may climb; the noise of a network in float32 is well below
LARGEST_RISE = 1e-2

RUNNING, CONVERGED, OUT_OF_STEPS, ROSE, NOT_FINITE = range(5)


@dataclass(eq=False)
class Standing(Flat):
    """How systems stand: one of the numbers above and what it is about, from the evaluation after which they ended."""

    start_energy: PerSystem  # eV
    start_minimised: PerSystem  # eV, the same with p V
    reason: PerSystem
    fmax: PerSystem  # eV/A
    stress: PerSystem  # GPa, the largest component

    @staticmethod
    def unknown(state: State) -> Standing:
        """Before the first evaluation."""
        nan = torch.full_like(state.energy, torch.nan)
        return Standing(nan, nan, torch.full_like(state.step, RUNNING), nan, nan)


@dataclass
class Running:
    """Systems on their way with all that is remembered of them."""

    state: State
    coordinates: Flat
    optimizer: Flat
    standing: Standing

    def take(self, systems: Tensor) -> Running:
        atoms = self.state.atoms_of(systems)
        return Running(
            self.state.systems(systems),
            self.coordinates.take(atoms, systems),
            self.optimizer.take(atoms, systems),
            self.standing.take(atoms, systems),
        )

    def join(self, other: Running) -> Running:
        return Running(
            self.state.join([other.state]),
            self.coordinates.join([other.coordinates]),
            self.optimizer.join([other.optimizer]),
            self.standing.join([other.standing]),
        )


@dataclass(frozen=True)
class Method:
    """An optimizer in its coordinates, and when it ends; nothing here waits for a device.

    Systems that have ended stand still until they leave: when that is does not matter.
    """

    coordinates: Coordinates[Any]
    optimizer: Optimizer[Any]
    fmax: float  # eV/A
    steps: int

    def start(self, state: State) -> Running:
        memory = self.coordinates.start(state)
        optimizer = self.optimizer.start(self.coordinates.variables(state, memory))
        return Running(state, memory, optimizer, Standing.unknown(state))

    def step(self, running: Running) -> None:
        """Move the systems; they have been evaluated and judged."""
        state, memory = running.state, running.coordinates
        variables, forces = self.coordinates.variables(state, memory), self.coordinates.forces(state, memory)
        energy = variables.over_groups(self.coordinates.energy(state))
        moves = running.standing.reason == RUNNING
        new = self.optimizer.step(running.optimizer, variables, forces, energy)
        self.coordinates.move(state, memory, new.where(moves, variables))
        state.step = state.step + moves

    def judge(self, running: Running) -> None:
        """Say of each system how it stands; the state has been evaluated."""
        state, standing = running.state, running.standing
        energy = self.coordinates.energy(state)
        standing.start_energy = torch.where(state.step == 0, state.energy, standing.start_energy)
        standing.start_minimised = torch.where(state.step == 0, energy, standing.start_minimised)
        forces, stress = self.coordinates.residual(state, running.coordinates)
        of_cell = (volume(state.cell) / state.atoms_per_system)[:, None, None] * stress
        all_forces = Vector(forces, of_cell, state.batch, state.group)
        fmax = all_forces.like(forces, of_cell[:, :0]).longest()
        minimised, start = all_forces.over_groups(torch.stack([energy, standing.start_minimised], dim=1)).unbind(dim=1)
        finite, low = torch.isfinite(minimised + all_forces.dot(all_forces)), minimised < start + LARGEST_RISE
        found = torch.where(state.step >= self.steps, OUT_OF_STEPS, RUNNING)
        found = torch.where(all_forces.longest() <= self.fmax, torch.where(low, CONVERGED, ROSE), found)
        found = torch.where(finite, found, NOT_FINITE)
        runs = standing.reason == RUNNING
        standing.fmax = torch.where(runs, fmax, standing.fmax)
        standing.stress = torch.where(runs, stress.abs().amax(dim=(1, 2)) / GPA, standing.stress)
        standing.reason = torch.where(runs, found, standing.reason)
