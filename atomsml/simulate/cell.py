"""What a relaxation varies: the positions of atoms, and in crystals the cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch import Tensor

from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, NoMemory, State

Memory = TypeVar("Memory", bound=Flat)


class Coordinates(ABC, Generic[Memory]):
    """The variables in which an optimizer sees a state, and the forces along them."""

    needs_stress: bool

    @abstractmethod
    def start(self, state: State) -> Memory:
        """What has to be remembered of systems that begin, such as the cell that they had."""

    @abstractmethod
    def variables(self, state: State, memory: Memory) -> Vector: ...

    @abstractmethod
    def forces(self, state: State, memory: Memory) -> Vector:
        """Minus the gradient of `energy`, in the directions that constraints leave; the state has been evaluated."""

    @abstractmethod
    def energy(self, state: State) -> Tensor:
        """(systems,) eV: what is minimised."""

    @abstractmethod
    def move(self, state: State, memory: Memory, variables: Vector) -> None:
        """Bring the state where its variables are these."""


class FixedCell(Coordinates[NoMemory]):
    """The positions, in A."""

    needs_stress = False

    def start(self, state: State) -> NoMemory:
        return NoMemory()

    def variables(self, state: State, memory: NoMemory) -> Vector:
        return _of_atoms(state, state.positions)

    def forces(self, state: State, memory: NoMemory) -> Vector:
        return _of_atoms(state, state.held(state.forces))

    def energy(self, state: State) -> Tensor:
        return state.energy

    def move(self, state: State, memory: NoMemory, variables: Vector) -> None:
        state.positions = variables.atoms


def _of_atoms(state: State, rows: Tensor) -> Vector:
    return Vector(rows, state.cell[:, :0], state.batch, state.group)
