"""FIRE: damped molecular dynamics that stops when it goes uphill."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.simulate.optimizers.optimizer import Optimizer
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, PerAtom, PerSystem

FIRST_STEP, LARGEST_TIME_STEP = 0.1, 1.0  # A sqrt(u / eV), of particles of 1 u
LONGEST = 0.2  # A: the whole step of a group is no longer
PATIENCE = 5  # steps downhill before the time step grows
FASTER, SLOWER = 1.1, 0.5  # what becomes of the time step
STEERING, STEERING_DECAY = 0.1, 0.99


@dataclass(eq=False)
class FIREMemory(Flat):
    """Velocities of atoms and cells; the time step, the share of steering and steps since it last went uphill."""

    atoms: PerAtom
    cell: PerSystem
    dt: PerSystem
    steering: PerSystem
    downhill: PerSystem


class FIRE(Optimizer[FIREMemory]):
    """Fast inertial relaxation engine (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)).

    While the power P = F.v is positive, v <- (1 - a) v + a |v| F / |F|, and after PATIENCE steps dt grows and a falls;
    otherwise v = 0, dt is halved and a starts anew. Then v <- v + dt F and x <- x + dt v, no farther than LONGEST.
    """

    def start(self, variables: Vector) -> FIREMemory:
        ones = variables.cell.new_ones(len(variables.cell))
        return FIREMemory(
            atoms=torch.zeros_like(variables.atoms),
            cell=torch.zeros_like(variables.cell),
            dt=FIRST_STEP * ones,
            steering=STEERING * ones,
            downhill=torch.zeros_like(variables.group),
        )

    def step(self, memory: FIREMemory, variables: Vector, forces: Vector, energy: Tensor) -> Vector:
        velocities = forces.like(memory.atoms, memory.cell)
        down = forces.dot(velocities) > 0
        speed, pull = velocities.dot(velocities).sqrt(), forces.dot(forces).sqrt()
        steered = velocities.times(1 - memory.steering) + forces.times(memory.steering * speed / pull)
        longer = down & (memory.downhill > PATIENCE)
        started = speed > 0  # before the first step there is nothing to stop
        slower = torch.where(started & ~down, memory.dt * SLOWER, memory.dt)
        dt = torch.where(longer, (memory.dt * FASTER).clamp(max=LARGEST_TIME_STEP), slower)
        steering = torch.where(longer, memory.steering * STEERING_DECAY, memory.steering)
        velocities = steered.where(down, velocities.times(torch.zeros_like(dt))) + forces.times(dt)
        memory.atoms, memory.cell, memory.dt = velocities.atoms, velocities.cell, dt
        memory.steering = torch.where(down, steering, STEERING)
        memory.downhill = torch.where(down, memory.downhill + 1, 0)
        step = velocities.times(dt)
        length = step.dot(step).sqrt()
        return variables + step.times(LONGEST / length.clamp(min=LONGEST))
