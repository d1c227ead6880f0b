"""Optimizer: what a relaxation asks of a way to minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch import Tensor

from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat

Memory = TypeVar("Memory", bound=Flat)


class Optimizer(ABC, Generic[Memory]):
    """Says where all systems go next; knows neither models nor cells, only variables and forces.

    Systems may come and go between two steps: what an optimizer has to remember of them is its Memory, whose rows are
    taken and joined with those of the state. Nothing else may be remembered. The systems of a group are one problem.
    """

    @abstractmethod
    def start(self, variables: Vector) -> Memory:
        """The memory of systems that begin."""

    @abstractmethod
    def step(self, memory: Memory, variables: Vector, forces: Vector, energy: Tensor) -> Vector:
        """The next variables.

        Args:
            memory: of these systems; updated.
            variables: where they are.
            forces: minus the gradient there.
            energy: (systems,) eV: what is minimised, the same for all systems of a group.
        """
