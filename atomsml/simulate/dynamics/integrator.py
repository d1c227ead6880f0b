"""Integrator: what molecular dynamics asks of a way to move atoms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from atomsml.simulate.model import Model
from atomsml.simulate.state import Flat, PerSystem, State, total
from atomsml.units import FS

Memory = TypeVar("Memory", bound=Flat)


@dataclass(eq=False)
class Heat(Flat):
    """What a thermostat remembers, all of it or the beginning.

    heat: (systems,) eV put in so far by noise, by changes of the temperature and by swaps.
    """

    heat: PerSystem


class Integrator(ABC, Generic[Memory]):
    """Moves all systems of a state by a time step.

    Systems may come and go between two steps: what an integrator has to remember of them, such as the chains of a
    thermostat, is its Memory, whose rows are taken and joined with those of the state. Nothing else may be remembered.
    """

    needs_stress = False  # whether `step` reads the stress: barostats

    @abstractmethod
    def start(self, state: State) -> Memory:
        """The memory of systems that begin; they have been evaluated."""

    @abstractmethod
    def step(self, state: State, memory: Memory, model: Model) -> None:
        """Move the systems by a time step and evaluate them where they are then; adds 1 to `state.step`."""

    @abstractmethod
    def conserved(self, state: State, memory: Memory) -> Tensor:
        """(systems,) eV: what an exact integration would keep constant."""


def kinetic_energy(state: State) -> Tensor:
    """(systems,) sum of m v^2 / 2, eV."""
    return total(0.5 * state.masses * state.velocities.square().sum(dim=1), state.batch, state.num_systems)


def internal_time(name: str, value: float) -> float:
    """Of fs.

    Raises:
        ValueError: not a positive number.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number of fs, got {value}")
    return value * FS
