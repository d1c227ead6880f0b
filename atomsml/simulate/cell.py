"""What a relaxation varies: the positions of atoms, and in crystals the cell.

Lattice vectors are the rows of the cell A, and D deforms both them and the atoms: A = A0 D, x = u D. A relaxed cell is
varied as u and three rows more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.simulate.measures import Measure
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, NoMemory, PerAtom, PerSystem, State
from atomsml.simulate.symmetry import Orbits, common, find_orbits

Memory = TypeVar("Memory", bound=Flat)

IDENTITY = torch.eye(3, dtype=torch.float64)
LENGTH = 1.5  # A: what strains are multiplied by, besides the root of the number of atoms


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
        """Minus the gradient of `energy` along the variables; the state has been evaluated."""

    @abstractmethod
    def energy(self, state: State) -> Tensor:
        """(systems,) eV: what is minimised."""

    @abstractmethod
    def residual(self, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        """(atoms, 3) forces, eV/A, and (systems, 3, 3) stresses, eV/A^3, that are to vanish."""

    @abstractmethod
    def move(self, state: State, memory: Memory, variables: Vector) -> None:
        """Bring the state where its variables are these."""


class FixedCell(Coordinates[NoMemory]):
    """The positions, in A."""

    needs_stress = False

    def start(self, state: State) -> NoMemory:
        return NoMemory()

    def variables(self, state: State, memory: NoMemory) -> Vector:
        return Vector(state.positions, state.cell[:, :0], state.batch, state.group)

    def forces(self, state: State, memory: NoMemory) -> Vector:
        return Vector(state.held(state.forces), state.cell[:, :0], state.batch, state.group)

    def energy(self, state: State) -> Tensor:
        return state.energy

    def residual(self, state: State, memory: NoMemory) -> tuple[Tensor, Tensor]:
        return state.held(state.forces), torch.zeros_like(state.cell)

    def move(self, state: State, memory: NoMemory, variables: Vector) -> None:
        state.positions = variables.atoms


@dataclass(eq=False)
class CellMemory(Flat):
    """Cells and positions without the deformation; what constraints and symmetry leave of moves and of strains."""

    undeformed: PerAtom  # (atoms, 3) u
    cell: PerSystem  # (systems, 3, 3) A0
    matrix: PerSystem  # (systems, 3, 3) of the Measure
    deformation: PerSystem  # (systems, 3, 3) D, of this matrix
    inverse: PerSystem  # (systems, 3, 3) D^-1
    scale: PerSystem  # (systems, 1, 1) A, by which the matrix is multiplied
    strains: PerSystem  # (systems, 9, 9) projector on the strains that are free
    orbits: Orbits


class FreeCell(Coordinates[CellMemory]):
    """u in A, and the matrix of a measure times LENGTH sqrt(N).

    Forces are F D^T and, along the matrix, that of -V (stress + p) D^-1, over LENGTH sqrt(N): those of ASE's
    FrechetCellFilter and UnitCellFilter with this factor instead of N. With N atoms the energy grows as N / 2 times V C
    / N, of order 10 eV, times the square of a strain, so that in these variables a cell of any size is as stiff as
    atoms are, and an optimizer needs a quarter fewer steps than with N.

    Args:
        measure: what the matrix is.
        pressure: eV/A^3, from outside; E + p V is minimised.
        shape: a key of SHAPES: what may change of the cell.
        fixed_axes: lattice vectors that keep their lengths and directions.
        symmetry: A; where it is given, the space group that is found within it is kept, and what misses it is mended.
    """

    needs_stress = True

    def __init__(
        self, measure: Measure, pressure: float, shape: str, fixed_axes: Sequence[int], symmetry: float | None
    ) -> None:
        self.measure, self.pressure, self.symmetry = measure, pressure, symmetry
        self.shape, self.fixed_axes = shape, list(fixed_axes)

    def start(self, state: State) -> CellMemory:
        orbits, strains = find_orbits(state, self.symmetry)
        undeformed = IDENTITY.to(state.device).expand(state.num_systems, 3, 3)
        return CellMemory(
            undeformed=state.positions,
            cell=state.cell,
            matrix=self.measure.start.to(state.device).expand(state.num_systems, 3, 3),
            deformation=undeformed,
            inverse=undeformed,
            scale=LENGTH * state.atoms_per_system.double().sqrt()[:, None, None],
            strains=common([strains, *free_strains(state.cell, self.shape, self.fixed_axes)]),
            orbits=orbits,
        )

    def variables(self, state: State, memory: CellMemory) -> Vector:
        return Vector(memory.undeformed, memory.scale * memory.matrix, state.batch, state.group)

    def forces(self, state: State, memory: CellMemory) -> Vector:
        virial = -volume(state.cell)[:, None, None] * self._total(state.stress)
        along = self.measure.along(memory.matrix, memory.deformation, virial @ memory.inverse)
        atoms = _times(self._left(state, memory, state.forces), memory.deformation.mT, state.batch)
        return Vector(atoms, _projected(along, memory.strains) / memory.scale, state.batch, state.group)

    def energy(self, state: State) -> Tensor:
        return state.energy + self.pressure * volume(state.cell) if self.pressure else state.energy

    def residual(self, state: State, memory: CellMemory) -> tuple[Tensor, Tensor]:
        return self._left(state, memory, state.forces), _projected(self._total(state.stress), memory.strains)

    def move(self, state: State, memory: CellMemory, variables: Vector) -> None:
        memory.matrix = variables.cell / memory.scale
        memory.deformation = deformation = self.measure.deformation(memory.matrix)
        memory.inverse = torch.linalg.inv_ex(deformation).inverse
        moved = self._left(state, memory, _times(variables.atoms - memory.undeformed, deformation, state.batch))
        memory.undeformed = memory.undeformed + _times(moved, memory.inverse, state.batch)
        state.cell = memory.cell @ deformation
        state.positions = _times(memory.undeformed, deformation, state.batch)

    def _total(self, stress: Tensor) -> Tensor:
        return stress + self.pressure * IDENTITY.to(stress.device) if self.pressure else stress

    def _left(self, state: State, memory: CellMemory, vectors: Tensor) -> Tensor:
        """What constraints, and the symmetry if it is kept, leave of forces or moves."""
        return state.held(vectors) if self.symmetry is None else memory.orbits.leave(vectors)


SHAPES = {
    "free": "lengths and angles",
    "isotropic": "the volume, all lengths by the same factor",
    "volume": "lengths and angles at the same volume",
    "fixed": "nothing",
}


def free_strains(cell: Tensor, shape: str, fixed_axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(systems, 9, 9) projectors on the strains of a shape (a key of SHAPES), and on those that leave lattice vectors.

    Args:
        cell: (systems, 3, 3).
    """
    everything = torch.eye(9, dtype=torch.float64, device=cell.device)
    trace = IDENTITY.reshape(9, 1).to(cell.device) @ IDENTITY.reshape(1, 9).to(cell.device) / 3
    shapes = {"free": everything, "isotropic": trace, "volume": everything - trace, "fixed": 0 * everything}
    across = IDENTITY.to(cell.device).expand_as(cell)
    if fixed_axes:
        held = cell[:, fixed_axes]
        across = across - torch.linalg.pinv(held) @ held
    leaving = torch.einsum("sij,skl->sikjl", across, across).reshape(-1, 9, 9)
    return shapes[shape].expand_as(leaving), leaving


def _projected(matrices: Tensor, projectors: Tensor) -> Tensor:
    return torch.bmm(projectors, matrices.reshape(-1, 9, 1)).reshape(-1, 3, 3)


def _times(rows: Tensor, matrices: Tensor, batch: Tensor) -> Tensor:
    return torch.bmm(rows[:, None], matrices[batch])[:, 0]
