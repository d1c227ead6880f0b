"""What a relaxation varies: the positions of atoms, and in crystals the cell.

Lattice vectors are the rows of the cell A, and D deforms both them and the atoms: A = A0 D, x = u D. A relaxed cell is
varied as u and three rows more, N times the matrix by which N atoms share what their cell does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, NoMemory, PerAtom, PerSystem, State
from atomsml.simulate.symmetry import Orbits, common, find_orbits

Memory = TypeVar("Memory", bound=Flat)

IDENTITY = torch.eye(3, dtype=torch.float64)


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


class Measure(ABC):
    """How a matrix of nine numbers says by what a cell is deformed."""

    start: Tensor  # (3, 3) of the undeformed cell

    @abstractmethod
    def deformation(self, matrix: Tensor) -> Tensor:
        """(systems, 3, 3) D."""

    @abstractmethod
    def along(self, matrix: Tensor, gradient: Tensor) -> Tensor:
        """The gradient with respect to the matrix from that with respect to D^T."""


class Frechet(Measure):
    """The matrix is L = log D^T: strains add up, det D = exp(tr L), and what a cell resists is alike at any size.

    Along L the gradient is the adjoint of the Frechet derivative of exp, which is the upper right block of
    exp [[L^T, G], [0, L^T]] (Higham, Functions of Matrices, SIAM 2008, eq. 3.16). L itself is what is remembered, so
    that no logarithm has to be taken.
    """

    start = torch.zeros(3, 3, dtype=torch.float64)

    def deformation(self, matrix: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(matrix).mT

    def along(self, matrix: Tensor, gradient: Tensor) -> Tensor:
        size = torch.linalg.matrix_norm(gradient)[:, None, None].clamp(min=torch.finfo(gradient.dtype).tiny)
        across = torch.cat([matrix.mT, gradient / size], dim=2)
        below = torch.cat([torch.zeros_like(matrix), matrix.mT], dim=2)
        return size * torch.linalg.matrix_exp(torch.cat([across, below], dim=1))[:, :3, 3:]


class Deformation(Measure):
    """The matrix is D^T itself (Tadmor et al., Phys. Rev. B 59, 235 (1999))."""

    start = IDENTITY

    def deformation(self, matrix: Tensor) -> Tensor:
        return matrix.mT

    def along(self, matrix: Tensor, gradient: Tensor) -> Tensor:
        return gradient


MEASURES: dict[str, Measure] = {"frechet": Frechet(), "deformation": Deformation()}


@dataclass(eq=False)
class CellMemory(Orbits):
    """Cells and positions without the deformation; what constraints and symmetry leave of moves and of strains."""

    undeformed: PerAtom  # (atoms, 3) u
    cell: PerSystem  # (systems, 3, 3) A0
    matrix: PerSystem  # (systems, 3, 3) of the Measure
    deformation: PerSystem  # (systems, 3, 3) D, of this matrix
    strains: PerSystem  # (systems, 9, 9) projector on the strains that are free


class FreeCell(Coordinates[CellMemory]):
    """u in A, and N times the matrix of a measure.

    Forces are F D^T and, along the matrix, that of -V (stress + p) D^-1, over N: those of ASE's FrechetCellFilter and
    UnitCellFilter.

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
        count = state.num_systems
        return CellMemory(
            **vars(orbits),
            undeformed=state.positions,
            cell=state.cell,
            matrix=self.measure.start.to(state.device).expand(count, 3, 3),
            deformation=IDENTITY.to(state.device).expand(count, 3, 3),
            strains=torch.stack(
                [
                    common([allowed, *free_strains(cell, self.shape, self.fixed_axes)])
                    for allowed, cell in zip(strains.cpu(), state.cell.cpu(), strict=True)
                ]
            ).to(state.device),
        )

    def variables(self, state: State, memory: CellMemory) -> Vector:
        size = state.atoms_per_system[:, None, None]
        return Vector(memory.undeformed, size * memory.matrix, state.batch, state.group)

    def forces(self, state: State, memory: CellMemory) -> Vector:
        size = state.atoms_per_system[:, None, None]
        virial = -volume(state.cell)[:, None, None] * (state.stress + self.pressure * IDENTITY.to(state.device))
        along = self.measure.along(memory.matrix, virial @ torch.linalg.inv(memory.deformation))
        atoms = _times(self._left(state, memory, state.forces), memory.deformation.mT, state.batch)
        return Vector(atoms, _projected(along, memory.strains) / size, state.batch, state.group)

    def energy(self, state: State) -> Tensor:
        return state.energy + self.pressure * volume(state.cell)

    def residual(self, state: State, memory: CellMemory) -> tuple[Tensor, Tensor]:
        stress = state.stress + self.pressure * IDENTITY.to(state.device)
        return self._left(state, memory, state.forces), _projected(stress, memory.strains)

    def move(self, state: State, memory: CellMemory, variables: Vector) -> None:
        memory.matrix = variables.cell / state.atoms_per_system[:, None, None]
        memory.deformation = deformation = self.measure.deformation(memory.matrix)
        moved = self._left(state, memory, _times(variables.atoms - memory.undeformed, deformation, state.batch))
        memory.undeformed = memory.undeformed + _times(moved, torch.linalg.inv(deformation), state.batch)
        state.cell = memory.cell @ deformation
        state.positions = _times(memory.undeformed, deformation, state.batch)

    def _left(self, state: State, memory: CellMemory, vectors: Tensor) -> Tensor:
        """What constraints, and the symmetry if it is kept, leave of forces or moves."""
        return state.held(vectors) if self.symmetry is None else memory.leave(vectors)


SHAPES = {
    "free": "lengths and angles",
    "isotropic": "the volume, all lengths by the same factor",
    "volume": "lengths and angles at the same volume",
    "fixed": "nothing",
}


def free_strains(cell: Tensor, shape: str, fixed_axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(9, 9) each: the projectors on strains of a shape (a key of SHAPES), and on those that leave lattice vectors."""
    everything = torch.eye(9, dtype=torch.float64)
    trace = IDENTITY.reshape(9, 1) @ IDENTITY.reshape(1, 9) / 3
    shapes = {"free": everything, "isotropic": trace, "volume": everything - trace, "fixed": 0 * everything}
    held = cell[fixed_axes]
    across = IDENTITY - torch.linalg.pinv(held) @ held if fixed_axes else IDENTITY
    return shapes[shape], torch.kron(across, across)


def _projected(matrices: Tensor, projectors: Tensor) -> Tensor:
    return torch.bmm(projectors, matrices.reshape(-1, 9, 1)).reshape(-1, 3, 3)


def _times(rows: Tensor, matrices: Tensor, batch: Tensor) -> Tensor:
    return torch.bmm(rows[:, None], matrices[batch])[:, 0]
