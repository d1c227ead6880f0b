"""L-BFGS: quasi-Newton steps of bounded length, taken back where the energy rose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.simulate.optimizers.optimizer import Optimizer
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, PerAtom, PerSystem, total

HISTORY = 20  # steps whose changes of forces are remembered
LONGEST = 0.2  # A: no atom moves farther in a step
STIFFNESS = 70.0  # eV/A^2, assumed of the first step, as ASE does of all
RISE = 1e-3  # eV: an energy that rose by more is no noise
SHORTER = 0.25  # what becomes of the longest step then
PATIENCE = 3  # steps taken back without any that led down before forces are trusted more than energies


@dataclass(eq=False)
class LBFGSMemory(Flat):
    """The last point and what is known of the curvature; steps s and changes of the gradient y, the latest last."""

    atoms: PerAtom  # (atoms, 3) variables of the last point
    cell: PerSystem
    atom_forces: PerAtom
    cell_forces: PerSystem
    energy: PerSystem  # eV there; infinite before the first step
    longest: PerSystem  # A: bound of the next step
    rejected: PerSystem  # steps taken back since the energy last fell
    atom_steps: PerAtom  # (atoms, HISTORY, 3) s
    cell_steps: PerSystem
    atom_changes: PerAtom  # (atoms, HISTORY, 3) y
    cell_changes: PerSystem
    step_changes: PerSystem  # (systems, HISTORY, HISTORY) s_i.y_j
    change_changes: PerSystem  # (systems, HISTORY, HISTORY) y_i.y_j


class LBFGS(Optimizer[LBFGSMemory]):
    """Limited-memory BFGS (Nocedal, Math. Comput. 35, 773 (1980)) without a line search.

    The step is -H g, with H the inverse Hessian of the last HISTORY pairs, in the compact form of Byrd, Nocedal and
    Schnabel, Math. Program. 63, 129 (1994): a few matrices for each group instead of a loop over pairs. It begins with
    the scale of the latest pair, s.y / y.y (Liu and Nocedal, Math. Program. 45, 503 (1989), section 3), which halves
    the number of evaluations beside ASE's constant.

    H is positive definite where all s.y > 0. Where the energy curves downwards along a step the pair enters as (s, -y),
    as BFGS of ASE takes the absolute values of eigenvalues: the next step then goes down instead of back to the saddle.

    Where the energy rose by more than RISE the step is taken back, though what it says of the curvature is kept, and
    the next one is shorter. After PATIENCE of these without a step down in between, steps are taken nevertheless: the
    forces are then no gradient of the energy, as those of some networks, and where they vanish is all there is to find.
    """

    def start(self, variables: Vector) -> LBFGSMemory:
        atoms, cell = variables.atoms, variables.cell
        systems, rows = len(cell), cell.shape[1]
        per_atom, per_cell = (len(atoms), HISTORY, 3), (systems, HISTORY, rows, 3)
        return LBFGSMemory(
            atoms=atoms,
            cell=cell,
            atom_forces=torch.zeros_like(atoms),
            cell_forces=torch.zeros_like(cell),
            energy=cell.new_full((systems,), torch.inf),
            longest=cell.new_full((systems,), LONGEST),
            rejected=torch.zeros_like(variables.group),
            atom_steps=atoms.new_zeros(per_atom),
            cell_steps=cell.new_zeros(per_cell),
            atom_changes=atoms.new_zeros(per_atom),
            cell_changes=cell.new_zeros(per_cell),
            step_changes=cell.new_zeros(systems, HISTORY, HISTORY),
            change_changes=cell.new_zeros(systems, HISTORY, HISTORY),
        )

    def step(self, memory: LBFGSMemory, variables: Vector, forces: Vector, energy: Tensor) -> Vector:
        before = variables.like(memory.atoms, memory.cell)
        forces_before = variables.like(memory.atom_forces, memory.cell_forces)
        moved = variables - before
        begun = torch.isfinite(memory.energy)
        _learn(memory, moved, (forces_before - forces).times(begun.to(energy)))

        rose = energy > memory.energy + RISE
        back = rose & (memory.rejected < PATIENCE)
        fell = energy < memory.energy - RISE
        memory.rejected = torch.where(back, memory.rejected + 1, torch.where(fell, 0, memory.rejected))
        memory.longest = torch.where(back, SHORTER * moved.longest(), (2 * memory.longest).clamp(max=LONGEST))
        memory.longest = torch.where(rose & ~back, LONGEST, memory.longest)
        variables, forces = before.where(back, variables), forces_before.where(back, forces)
        memory.atoms, memory.cell, memory.energy = (
            variables.atoms,
            variables.cell,
            torch.where(back, memory.energy, energy),
        )
        memory.atom_forces, memory.cell_forces = forces.atoms, forces.cell

        step = _direction(memory, forces)
        return variables + step.times(memory.longest / torch.maximum(step.longest(), memory.longest))


def _learn(memory: LBFGSMemory, s: Vector, y: Vector) -> None:
    """Remember a step and the change of the gradient along it instead of the oldest; zeros if it says nothing."""
    curvature = s.dot(y)
    s, y = s.times((curvature != 0).to(curvature)), y.times(curvature.sign())
    memory.atom_steps, memory.atom_changes = (
        _shifted(memory.atom_steps, s.atoms),
        _shifted(memory.atom_changes, y.atoms),
    )
    memory.cell_steps, memory.cell_changes = _shifted(memory.cell_steps, s.cell), _shifted(memory.cell_changes, y.cell)
    along_steps, along_changes = _products(memory, y)
    memory.step_changes = _bordered(memory.step_changes, along_steps)
    memory.change_changes = _bordered(memory.change_changes, along_changes)


def _direction(memory: LBFGSMemory, forces: Vector) -> Vector:
    """H F = h F + S R^-T ((D + h Y^T Y) R^-1 S^T F - h Y^T F) - h Y R^-1 S^T F, R the upper triangle of S^T Y.

    D is the diagonal of R, and h the latest s.y / y.y, or 1 / STIFFNESS before there is one. An empty place has
    s = y = 0, which 1 on the diagonal of R passes over.
    """
    p, q = _products(memory, forces)
    diagonal = memory.step_changes.diagonal(dim1=1, dim2=2)
    squares = memory.change_changes[:, -1, -1]
    known = squares > 0
    scale = torch.where(known, diagonal[:, -1] / torch.where(known, squares, 1), 1 / STIFFNESS)
    h = scale[:, None, None]
    upper = memory.step_changes.triu() + torch.diag_embed((diagonal == 0).to(diagonal))
    u = torch.linalg.solve_triangular(upper, p[:, :, None], upper=True)
    inner = diagonal[:, :, None] * u + h * (memory.change_changes @ u - q[:, :, None])
    w = torch.linalg.solve_triangular(upper.mT, inner, upper=False)
    u, w = scale[:, None] * u[:, :, 0], w[:, :, 0]
    atoms = _combined(w[forces.batch], memory.atom_steps) - _combined(u[forces.batch], memory.atom_changes)
    cell = _combined(w, memory.cell_steps) - _combined(u, memory.cell_changes)
    return forces.times(scale) + forces.like(atoms, cell)


def _products(memory: LBFGSMemory, vector: Vector) -> tuple[Tensor, Tensor]:
    """(systems, HISTORY) each: s_i.v and y_i.v."""
    systems = len(vector.cell)

    def products(atoms: Tensor, cell: Tensor) -> Tensor:
        of_atoms = total(torch.bmm(atoms, vector.atoms[:, :, None])[:, :, 0], vector.batch, systems)
        return vector.over_groups(of_atoms + torch.bmm(cell.flatten(2), vector.cell.reshape(systems, -1, 1))[:, :, 0])

    return products(memory.atom_steps, memory.cell_steps), products(memory.atom_changes, memory.cell_changes)


def _combined(factors: Tensor, history: Tensor) -> Tensor:
    """Sums of the HISTORY places of (rows, HISTORY, ...) times (rows, HISTORY) factors."""
    return torch.bmm(factors[:, None], history.flatten(2)).reshape(len(history), *history.shape[2:])


def _shifted(history: Tensor, latest: Tensor) -> Tensor:
    return torch.cat([history[:, 1:], latest[:, None]], dim=1)


def _bordered(matrix: Tensor, column: Tensor) -> Tensor:
    """Without the first row and column, but with a last column, and a last row as if the matrix were symmetric."""
    rows = torch.cat([matrix[:, 1:, 1:], column[:, None, :-1]], dim=1)
    return torch.cat([rows, column[:, :, None]], dim=2)
