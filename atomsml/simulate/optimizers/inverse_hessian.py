"""What L-BFGS knows of the curvature: the inverse Hessian that its latest steps tell, times a vector.

Pairs are steps s and changes of the gradient y along them, HISTORY places of each for every group, the latest last; in
an empty place both are zero. With S and Y the matrices of which they are columns, R the upper triangle of S^T Y and D
its diagonal, Byrd, Nocedal and Schnabel, Math. Program. 63, 129 (1994) write the inverse Hessian as

    H v = h v + S R^-T ((D + h Y^T Y) R^-1 S^T v - h Y^T v) - h Y R^-1 S^T v

which is a few matrices for each group instead of a loop over pairs. It begins with h, the latest s.y / y.y (Liu and
Nocedal, Math. Program. 45, 503 (1989), section 3), or 1 / STIFFNESS before there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from atomsml.simulate.optimizers.inverse_hessian_on_host import learn_on_host, times_on_host
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, PerAtom, PerSystem, total

HISTORY = 20  # steps whose changes of forces are remembered
STIFFNESS = 70.0  # eV/A^2, assumed of the first step, as ASE does of all


@dataclass(eq=False)
class Pairs(Flat):
    """Steps and changes of the gradient along them, and their products."""

    atom_steps: PerAtom  # (atoms, HISTORY, 3) s
    cell_steps: PerSystem  # (systems, HISTORY, rows of the cell, 3)
    atom_changes: PerAtom  # (atoms, HISTORY, 3) y
    cell_changes: PerSystem
    step_changes: PerSystem  # (systems, HISTORY, HISTORY) s_i.y_j
    change_changes: PerSystem  # (systems, HISTORY, HISTORY) y_i.y_j

    @classmethod
    def none(cls, variables: Vector) -> Self:
        atoms, cell = variables.atoms, variables.cell
        systems, rows = len(cell), cell.shape[1]
        return cls(
            atom_steps=atoms.new_zeros(len(atoms), HISTORY, 3),
            cell_steps=cell.new_zeros(systems, HISTORY, rows, 3),
            atom_changes=atoms.new_zeros(len(atoms), HISTORY, 3),
            cell_changes=cell.new_zeros(systems, HISTORY, rows, 3),
            step_changes=cell.new_zeros(systems, HISTORY, HISTORY),
            change_changes=cell.new_zeros(systems, HISTORY, HISTORY),
        )

    @property
    def places(self) -> int:
        return self.atom_steps.shape[1]

    def learn(self, s: Vector, y: Vector) -> None:
        """Remember a pair instead of the oldest one; zeros where it says nothing, -y where the energy curves down."""
        curvature = s.dot(y)
        s, y = s.times((curvature != 0).to(curvature)), y.times(curvature.sign())
        if s.atoms.device.type == "cpu":
            learn_on_host(self, s, y)
            return
        self.atom_steps, self.atom_changes = _shifted(self.atom_steps, s.atoms), _shifted(self.atom_changes, y.atoms)
        self.cell_steps, self.cell_changes = _shifted(self.cell_steps, s.cell), _shifted(self.cell_changes, y.cell)
        along_steps, along_changes = self._products(y)
        self.step_changes = _bordered(self.step_changes, along_steps)
        self.change_changes = _bordered(self.change_changes, along_changes)

    def times(self, vector: Vector) -> Vector:
        """The inverse Hessian times a vector."""
        if vector.atoms.device.type == "cpu":
            return times_on_host(self, vector, 1 / STIFFNESS)
        p, q = self._products(vector)
        diagonal = self.step_changes.diagonal(dim1=1, dim2=2)
        squares = self.change_changes[:, -1, -1]
        known = squares > 0
        scale = torch.where(known, diagonal[:, -1] / torch.where(known, squares, 1), 1 / STIFFNESS)
        h = scale[:, None, None]
        upper = self.step_changes.triu() + torch.diag_embed((diagonal == 0).to(diagonal))  # 1 passes over empty places
        u = torch.linalg.solve_triangular(upper, p[:, :, None], upper=True)
        inner = diagonal[:, :, None] * u + h * (self.change_changes @ u - q[:, :, None])
        w = torch.linalg.solve_triangular(upper.mT, inner, upper=False)
        u, w = scale[:, None] * u[:, :, 0], w[:, :, 0]
        atoms = _combined(w[vector.batch], self.atom_steps) - _combined(u[vector.batch], self.atom_changes)
        cell = _combined(w, self.cell_steps) - _combined(u, self.cell_changes)
        return vector.times(scale) + vector.like(atoms, cell)

    def _products(self, vector: Vector) -> tuple[Tensor, Tensor]:
        """(systems, HISTORY) each: s_i.v and y_i.v."""
        systems = len(vector.cell)

        def products(atoms: Tensor, cell: Tensor) -> Tensor:
            of_atoms = total(torch.bmm(atoms, vector.atoms[:, :, None])[:, :, 0], vector.batch, systems)
            of_cells = torch.bmm(cell.flatten(2), vector.cell.reshape(systems, -1, 1))[:, :, 0]
            return vector.over_groups(of_atoms + of_cells)

        return products(self.atom_steps, self.cell_steps), products(self.atom_changes, self.cell_changes)


def _combined(factors: Tensor, history: Tensor) -> Tensor:
    """Sums of the HISTORY places of (rows, HISTORY, ...) times (rows, HISTORY) factors."""
    return torch.bmm(factors[:, None], history.flatten(2)).reshape(len(history), *history.shape[2:])


def _shifted(history: Tensor, latest: Tensor) -> Tensor:
    return torch.cat([history[:, 1:], latest[:, None]], dim=1)


def _bordered(matrix: Tensor, column: Tensor) -> Tensor:
    """Without the first row and column, but with a last column, and a last row as if the matrix were symmetric."""
    rows = torch.cat([matrix[:, 1:, 1:], column[:, None, :-1]], dim=1)
    return torch.cat([rows, column[:, :, None]], dim=2)
