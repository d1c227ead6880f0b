"""Relax many structures at once: their energies and forces come in batches, their steps are their own.

Limited-memory BFGS (Nocedal, Math. Comput. 35, 773 (1980)) with steps of bounded length and no line search. A structure
that is done makes room for the next, and what becomes of it does not depend on those beside it.

Constraints of ASE that hold atoms, or components of their positions, are kept: what they leave of the forces is the
gradient in the space that is left, and BFGS never learns of the other directions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane

from atomsml.graph import AtomicGraph
from atomsml.potential import Predict
from atomsml.simulate.relax import LARGEST_RISE, Reason, RelaxSettings, RelaxState

HISTORY = 20  # steps whose changes of forces are remembered
LARGEST_STEP = 0.2  # A: no atom moves farther in a step
STIFFNESS = 70.0  # eV/A^2, assumed before anything is known, as ASE does
KEPT = (FixAtoms, FixCartesian, FixedLine, FixedPlane)  # constraints that project forces and steps in the same way


@dataclass(frozen=True)
class Relaxation:
    """A structure that is done."""

    index: int  # among the structures that were given
    atoms: ase.Atoms  # relaxed
    start_energy: float  # eV
    state: RelaxState


def relax_many(
    images: Sequence[ase.Atoms], predict: Predict, settings: RelaxSettings | None = None, batch_atoms: int = 2000
) -> Iterator[Relaxation]:
    """Relax copies of `images`, each yielded when it is done; `predict` gets float64 graphs without neighbour lists.

    About `batch_atoms` atoms are computed at a time. The cells stay as they are, and so does what constraints of the
    classes KEPT hold.

    Raises:
        ValueError: settings that ask for the cell or for another optimizer; other constraints; what `predict` raises.
    """
    settings = settings or RelaxSettings()
    if settings.cell or settings.optimizer != "lbfgs":
        raise ValueError("many structures at once are relaxed at fixed cells by lbfgs; relax them one by one instead")
    _check_constraints(images)
    waiting, running = deque(_Run(i, atoms.copy()) for i, atoms in enumerate(images)), list[_Run]()
    while waiting or running:
        space = batch_atoms - sum(len(run.atoms) for run in running)
        while waiting and (not running or len(waiting[0].atoms) <= space):
            space -= len(waiting[0].atoms)
            running.append(waiting.popleft())
        prediction = predict(_graph([run.atoms for run in running]))
        assert prediction.forces is not None
        ends = np.cumsum([len(run.atoms) for run in running])[:-1]
        free = np.split(prediction.forces.cpu().double().numpy(), ends)
        forces = [run.constrained(force) for run, force in zip(running, free, strict=True)]
        states = [
            run.judge(energy, force, settings)
            for run, energy, force in zip(running, prediction.energy.tolist(), forces, strict=True)
        ]
        for run, state, force in zip(running, states, forces, strict=True):
            if state.reason == "running":
                run.step(force)
            else:
                yield Relaxation(run.index, run.atoms, run.start_energy, state)
        running = [run for run, state in zip(running, states, strict=True) if state.reason == "running"]


def _check_constraints(images: Sequence[ase.Atoms]) -> None:
    for i, atoms in enumerate(images):
        for constraint in atoms.constraints:
            if not isinstance(constraint, KEPT):
                raise ValueError(
                    f"structure {i} has a {type(constraint).__name__}, and many structures at once keep only "
                    f"{', '.join(kept.__name__ for kept in KEPT)}; relax it alone, with atomsml.simulate.relax"
                )


class _Run:
    """One structure on its way."""

    def __init__(self, index: int, atoms: ase.Atoms) -> None:
        self.index, self.atoms = index, atoms
        self.start_energy = math.nan
        self.steps = 0
        # (change of positions s, change of the gradient y, 1 / (s . y)) of the last steps
        self.history: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=HISTORY)
        self.last: tuple[np.ndarray, np.ndarray] | None = None  # positions and forces before the last step

    def constrained(self, forces: np.ndarray) -> np.ndarray:
        """What the constraints leave of (atoms, 3) forces."""
        forces = forces.copy()
        for constraint in self.atoms.constraints:
            constraint.adjust_forces(self.atoms, forces)
        return forces

    def judge(self, energy: float, forces: np.ndarray, settings: RelaxSettings) -> RelaxState:
        if self.steps == 0:
            self.start_energy = energy
        fmax = float(np.linalg.norm(forces, axis=1).max())
        reason: Reason = "running"
        if not (math.isfinite(energy) and math.isfinite(fmax)):
            reason = "energy or forces are not finite"
        elif fmax <= settings.fmax:
            reason = "converged" if energy < self.start_energy + LARGEST_RISE else "energy rose"
        elif self.steps == settings.steps:
            reason = "out of steps"
        return RelaxState(self.steps, energy, fmax, reason)

    def step(self, forces: np.ndarray) -> None:
        positions = self.atoms.positions.copy()
        if self.last is not None:
            s, y = (positions - self.last[0]).ravel(), (self.last[1] - forces).ravel()
            if s @ y > 0:  # otherwise the energy is no bowl along the step, and says nothing about its bottom
                self.history.append((s, y, 1 / float(s @ y)))
        direction = self._direction(forces.ravel()).reshape(-1, 3)
        longest = float(np.linalg.norm(direction, axis=1).max())
        self.atoms.set_positions(positions + direction * min(1.0, LARGEST_STEP / longest))  # keeps the constraints
        self.last = positions, forces
        self.steps += 1

    def _direction(self, forces: np.ndarray) -> np.ndarray:
        """The inverse Hessian of the history times the forces, by the two-loop recursion."""
        q, shares = forces, []
        for s, y, inverse in reversed(self.history):
            share = inverse * float(s @ q)
            shares.append(share)
            q = q - share * y
        z = q / STIFFNESS
        for (s, y, inverse), share in zip(self.history, reversed(shares), strict=True):
            z = z + s * (share - inverse * float(y @ z))
        return z


def _graph(images: Sequence[ase.Atoms]) -> AtomicGraph:
    return AtomicGraph(
        positions=torch.from_numpy(np.concatenate([atoms.positions for atoms in images])),
        numbers=torch.from_numpy(np.concatenate([atoms.numbers for atoms in images]).astype(np.int64)),
        cell=torch.from_numpy(np.stack([atoms.cell.array for atoms in images])),
        pbc=torch.from_numpy(np.stack([atoms.pbc for atoms in images])),
        batch=torch.repeat_interleave(torch.tensor([len(atoms) for atoms in images])),
    )
