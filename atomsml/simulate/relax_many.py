"""Relax many structures at once: their energies and forces come in batches, their steps are their own.

A structure that is done makes room for the next, and what becomes of it does not depend on those beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import torch
from torch import Tensor

from atomsml.simulate.cell import Coordinates, FixedCell
from atomsml.simulate.model import Model
from atomsml.simulate.optimizers import OPTIMIZERS
from atomsml.simulate.optimizers.optimizer import Optimizer
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.relax import LARGEST_RISE, Reason, RelaxSettings, RelaxState
from atomsml.simulate.state import Flat, PerSystem, State

REASONS: tuple[Reason, ...] = (
    "running",
    "converged",
    "out of steps",
    "energy rose",
    "energy or forces are not finite",
)


@dataclass(frozen=True)
class Relaxation:
    """A structure that is done."""

    index: int  # among the structures that were given
    atoms: ase.Atoms  # relaxed, with energy, forces and, of a relaxed cell, stress
    start_energy: float  # eV
    state: RelaxState


@dataclass(frozen=True)
class Batch:
    """The structures on their way, after an evaluation."""

    systems: State
    states: dict[int, RelaxState]  # by the index of a structure
    done: list[Relaxation]  # those of them that are done; they leave


def relax_many(
    structures: Sequence[ase.Atoms], model: Model, settings: RelaxSettings | None = None, batch_atoms: int = 2000
) -> Iterator[Relaxation]:
    """Relax copies of `structures`, each yielded when it is done; about `batch_atoms` atoms are computed at a time.

    Raises:
        ValueError: constraints that cannot be kept (`constraints.projectors`); what the model raises.
    """
    for batch in iterate_relax_many(structures, model, settings, batch_atoms):
        yield from batch.done


def iterate_relax_many(
    structures: Sequence[ase.Atoms], model: Model, settings: RelaxSettings | None = None, batch_atoms: int = 2000
) -> Iterator[Batch]:
    """The same as a loop that yields all structures on their way after each evaluation.

    Raises:
        ValueError: constraints that cannot be kept (`constraints.projectors`); what the model raises.
    """
    settings = settings or RelaxSettings()
    for atoms in structures:
        settings.check(atoms)
    everything = State.of(structures) if structures else None
    waiting, running = deque(range(len(structures))), None
    method = _Method(FixedCell(), OPTIMIZERS[settings.optimizer].make())
    while waiting or running is not None:
        assert everything is not None
        entering, space = list[int](), batch_atoms - (0 if running is None else running.state.num_atoms)
        while waiting and (len(structures[waiting[0]]) <= space or (running is None and not entering)):
            entering.append(waiting.popleft())
            space -= len(structures[entering[-1]])
        if entering:
            fresh = method.start(everything.systems(torch.tensor(entering)))
            running = fresh if running is None else running.join(fresh)
        assert running is not None
        model(running.state, stress=method.coordinates.needs_stress)
        states = running.judge(method, settings)
        done = torch.tensor([state.reason != "running" for state in states.values()])
        yield Batch(running.state, states, running.finished(done.nonzero().flatten(), structures, states))
        running = None if done.all() else running.take((~done).nonzero().flatten())
        if running is not None:
            method.step(running)


@dataclass(eq=False)
class _Start(Flat):
    energy: PerSystem  # eV of the start; NaN before the first evaluation


@dataclass
class _Running:
    """Structures on their way with all that is remembered of them."""

    state: State
    coordinates: Flat
    optimizer: Flat
    start: _Start

    def take(self, systems: Tensor) -> _Running:
        atoms = self.state.atoms_of(systems)
        memories = (each.take(atoms, systems) for each in (self.coordinates, self.optimizer, self.start))
        return _Running(self.state.systems(systems), *memories)  # type: ignore[arg-type]

    def join(self, other: _Running) -> _Running:
        return _Running(
            self.state.join([other.state]),
            self.coordinates.join([other.coordinates]),
            self.optimizer.join([other.optimizer]),
            self.start.join([other.start]),
        )

    def judge(self, method: _Method, settings: RelaxSettings) -> dict[int, RelaxState]:
        """How each structure stands; in one transfer from the device."""
        state = self.state
        energy = method.energy(self)
        self.start.energy = torch.where(state.step == 0, energy, self.start.energy)
        held = Vector(state.held(state.forces), state.cell[:, :0], state.batch, state.group)
        fmax = held.longest()
        finite = torch.isfinite(energy + held.dot(held))
        converged = fmax <= settings.fmax
        low = energy < self.start.energy + LARGEST_RISE
        reason = torch.where(state.step >= settings.steps, 2, 0)
        reason = torch.where(converged, torch.where(low, 1, 3), reason)
        reason = torch.where(finite, reason, 4)
        columns = (state.index, state.step, state.energy, fmax, reason)
        return {
            int(index): RelaxState(int(step), energy, fmax, REASONS[int(code)])
            for index, step, energy, fmax, code in torch.stack([c.to(energy) for c in columns], dim=1).tolist()
        }

    def finished(
        self, systems: Tensor, structures: Sequence[ase.Atoms], states: dict[int, RelaxState]
    ) -> list[Relaxation]:
        """The results of these systems."""
        if len(systems) == 0:
            return []
        indices, energies = self.state.index[systems].tolist(), self.start.energy[systems].tolist()
        copies = self.state.systems(systems).write_to([structures[i] for i in indices])
        results = zip(indices, copies, energies, strict=True)
        return [Relaxation(index, atoms, energy, states[index]) for index, atoms, energy in results]


@dataclass(frozen=True)
class _Method:
    """An optimizer in its coordinates."""

    coordinates: Coordinates[Any]
    optimizer: Optimizer[Any]

    def start(self, state: State) -> _Running:
        memory = self.coordinates.start(state)
        optimizer = self.optimizer.start(self.coordinates.variables(state, memory))
        return _Running(state, memory, optimizer, _Start(torch.full_like(state.energy, torch.nan)))

    def energy(self, running: _Running) -> Tensor:
        """(systems,) eV: what is minimised, of the group of each system."""
        state = running.state
        return self.coordinates.variables(state, running.coordinates).over_groups(self.coordinates.energy(state))

    def step(self, running: _Running) -> None:
        state = running.state
        variables = self.coordinates.variables(state, running.coordinates)
        forces = self.coordinates.forces(state, running.coordinates)
        new = self.optimizer.step(running.optimizer, variables, forces, self.energy(running))
        self.coordinates.move(state, running.coordinates, new)
        state.step = state.step + 1
