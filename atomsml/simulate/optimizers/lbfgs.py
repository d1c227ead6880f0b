"""L-BFGS: quasi-Newton steps of bounded length, taken back where the energy rose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.simulate.optimizers.inverse_hessian import Pairs
from atomsml.simulate.optimizers.optimizer import Optimizer
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, PerAtom, PerSystem

LONGEST = 0.2  # A: no atom moves farther in a step
RISE = 1e-3  # eV: an energy that rose by more is no noise
SHORTER = 0.25  # what becomes of the longest step then
PATIENCE = 3  # steps taken back without any that led down before forces are trusted more than energies


@dataclass(eq=False)
class LBFGSMemory(Flat):
    """The last point, how the next step is bounded, and what is known of the curvature."""

    atoms: PerAtom  # (atoms, 3) variables of the last point
    cell: PerSystem
    atom_forces: PerAtom
    cell_forces: PerSystem
    energy: PerSystem  # eV there; infinite before the first step
    longest: PerSystem  # A: bound of the next step
    length: PerSystem  # A: of the last step
    rejected: PerSystem  # steps taken back since the energy last fell
    pairs: Pairs


class LBFGS(Optimizer[LBFGSMemory]):
    """Limited-memory BFGS (Nocedal, Math. Comput. 35, 773 (1980)) without a line search.

    The step is -H g, with H the inverse Hessian that the last steps tell (inverse_hessian.py). It begins with the scale
    of the latest one, which halves the number of evaluations beside ASE's constant.

    H is positive definite where all s.y > 0. Where the energy curves downwards along a step the pair enters as (s, -y),
    as BFGS of ASE takes the absolute values of eigenvalues: the next step then goes down instead of back to the saddle.

    Where the energy rose by more than RISE the step is taken back, though what it says of the curvature is kept, and
    the next one is shorter. After PATIENCE of these without a step down in between, steps are taken nevertheless: the
    forces are then no gradient of the energy, as those of some networks, and where they vanish is all there is to find.
    """

    def start(self, variables: Vector) -> LBFGSMemory:
        atoms, cell = variables.atoms, variables.cell
        return LBFGSMemory(
            atoms=atoms,
            cell=cell,
            atom_forces=torch.zeros_like(atoms),
            cell_forces=torch.zeros_like(cell),
            energy=cell.new_full((len(cell),), torch.inf),
            longest=cell.new_full((len(cell),), LONGEST),
            length=cell.new_zeros(len(cell)),
            rejected=torch.zeros_like(variables.group),
            pairs=Pairs.none(variables),
        )

    def step(self, memory: LBFGSMemory, variables: Vector, forces: Vector, energy: Tensor) -> Vector:
        before = variables.like(memory.atoms, memory.cell)
        forces_before = variables.like(memory.atom_forces, memory.cell_forces)
        moved = variables - before
        begun = torch.isfinite(memory.energy)
        memory.pairs.learn(moved, (forces_before - forces).times(begun.to(energy)))

        rose = energy > memory.energy + RISE
        back = rose & (memory.rejected < PATIENCE)
        fell = energy < memory.energy - RISE
        memory.rejected = torch.where(back, memory.rejected + 1, torch.where(fell, 0, memory.rejected))
        memory.longest = torch.where(back, SHORTER * memory.length, (2 * memory.longest).clamp(max=LONGEST))
        memory.longest = torch.where(rose & ~back, LONGEST, memory.longest)
        variables, forces = before.where(back, variables), forces_before.where(back, forces)
        memory.atoms, memory.cell, memory.energy = (
            variables.atoms,
            variables.cell,
            torch.where(back, memory.energy, energy),
        )
        memory.atom_forces, memory.cell_forces = forces.atoms, forces.cell

        step = memory.pairs.times(forces)
        length = step.longest()
        memory.length = torch.minimum(length, memory.longest)
        return variables + step.times(memory.longest / torch.maximum(length, memory.longest))
