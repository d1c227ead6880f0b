"""Conjugate gradients: a line after the other, along each to where the force along it vanishes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.simulate.optimizers.optimizer import Optimizer
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, PerAtom, PerSystem

LONGEST = 0.2  # A: no atom moves farther along a line
STIFFNESS = 70.0  # eV/A^2, assumed of the first line
FLAT = 0.1  # a line ends where the force along it is this part of what it was at its beginning
RISE = 1e-3  # eV: an energy that rose by more is no noise
GROWTH = 4.0  # a trial goes at most so many times as far as the last one
PATIENCE = 8  # trials along a line before the next one begins where the last one led


@dataclass(eq=False)
class CGMemory(Flat):
    """The line of each group: where it begins, its direction, and between which lengths along it the minimum lies."""

    atoms: PerAtom
    cell: PerSystem
    atom_forces: PerAtom  # at the beginning
    cell_forces: PerSystem
    atom_direction: PerAtom
    cell_direction: PerSystem
    energy: PerSystem  # eV at the beginning; infinite before the first line
    slope: PerSystem  # force along the direction at the beginning
    length: PerSystem  # of the trial that is evaluated
    limit: PerSystem  # the largest length
    low: PerSystem  # the longest trial that led down and not too far, and the force along the direction there
    low_slope: PerSystem
    high: PerSystem  # the shortest trial that went too far; infinite before there is one
    high_slope: PerSystem
    trials: PerSystem


class ConjugateGradients(Optimizer[CGMemory]):
    """Nonlinear conjugate gradients of Polak and Ribiere (Rev. Fr. Inform. Rech. Oper. 3, 35 (1969)).

    A line has the direction d = F + max(0, F.(F - F') / F'.F') d', with F' and d' of the line before (Gilbert and
    Nocedal, SIAM J. Optim. 2, 21 (1992)). Along it the force F.d is brought to FLAT of what it was by secants, which
    are exact where the energy is quadratic, and every third trial by halves. The first trial is as long as if it gained
    as much as the line before (Nocedal and Wright, Numerical Optimization, 2006, eq. 3.60). A line ends as well where
    an atom has moved by LONGEST, and after PATIENCE trials, where the forces are no gradient of the energy.
    """

    def start(self, variables: Vector) -> CGMemory:
        atoms, cell = torch.zeros_like(variables.atoms), torch.zeros_like(variables.cell)
        zeros = variables.cell.new_zeros(len(variables.cell))
        return CGMemory(
            atoms=variables.atoms,
            cell=variables.cell,
            atom_forces=atoms,
            cell_forces=cell,
            atom_direction=atoms,
            cell_direction=cell,
            energy=zeros + torch.inf,
            slope=zeros,
            length=zeros,
            limit=zeros,
            low=zeros,
            low_slope=zeros,
            high=zeros + torch.inf,
            high_slope=zeros,
            trials=torch.zeros_like(variables.group),
        )

    def step(self, memory: CGMemory, variables: Vector, forces: Vector, energy: Tensor) -> Vector:
        direction = forces.like(memory.atom_direction, memory.cell_direction)
        slope = forces.dot(direction)
        begun, rose = torch.isfinite(memory.energy), energy > memory.energy + RISE
        gave_up = memory.trials >= PATIENCE
        flat = (slope.abs() <= FLAT * memory.slope) | ((slope > 0) & (memory.length >= memory.limit))
        ended = ~begun | gave_up | (flat & ~rose)

        turned, turned_slope, guess = _next_line(memory, direction, forces, begun & ~gave_up)
        _narrow(memory, slope, rose)
        start = variables.where(ended, variables.like(memory.atoms, memory.cell))
        start_forces = forces.where(ended, forces.like(memory.atom_forces, memory.cell_forces))
        direction = turned.where(ended, direction)
        memory.atoms, memory.cell = start.atoms, start.cell
        memory.atom_forces, memory.cell_forces = start_forces.atoms, start_forces.cell
        memory.atom_direction, memory.cell_direction = direction.atoms, direction.cell
        memory.energy = torch.where(ended, energy, memory.energy)
        memory.slope = torch.where(ended, turned_slope, memory.slope)
        memory.limit = LONGEST / direction.longest()
        memory.length = torch.minimum(torch.where(ended, guess, memory.length), memory.limit)
        memory.low = torch.where(ended, 0, memory.low)
        memory.low_slope = torch.where(ended, turned_slope, memory.low_slope)
        memory.high = torch.where(ended, torch.inf, memory.high)
        memory.trials = torch.where(ended, 1, memory.trials + 1)
        return start + direction.times(memory.length)


def _narrow(memory: CGMemory, slope: Tensor, rose: Tensor) -> None:
    """The minimum of a line lies on one side of a trial; the length of the next trial."""
    last, last_slope, length = memory.low, memory.low_slope, memory.length
    beyond = rose | (slope < 0)
    memory.high = torch.where(beyond, length, memory.high)
    memory.high_slope = torch.where(beyond, slope, memory.high_slope)
    memory.low, memory.low_slope = torch.where(beyond, last, length), torch.where(beyond, last_slope, slope)
    width = memory.high - memory.low
    secant = memory.low_slope / (memory.low_slope - memory.high_slope)
    halve = (memory.high_slope >= 0) | (memory.trials % 3 == 0)
    inside = memory.low + width * torch.where(halve, 0.5, secant)
    ahead = length + (length - last) * slope / (last_slope - slope)
    farther = torch.where(slope < last_slope, torch.minimum(ahead, GROWTH * length), GROWTH * length)
    memory.length = torch.where(torch.isfinite(memory.high), inside, farther)


def _next_line(memory: CGMemory, direction: Vector, forces: Vector, turns: Tensor) -> tuple[Vector, Tensor, Tensor]:
    """Direction, force along it and first trial of the line that begins here; along the forces unless it `turns`."""
    before = forces.like(memory.atom_forces, memory.cell_forces)
    beta = (forces.dot(forces - before) / before.dot(before)).clamp(min=0)
    conjugate = forces + direction.times(torch.where(turns, beta, 0))
    downhill = forces.dot(conjugate) > 0
    line = conjugate.where(downhill, forces)
    slope = forces.dot(line)
    return line, slope, torch.where(turns, memory.length * memory.slope / slope, 1 / STIFFNESS)
