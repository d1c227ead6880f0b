"""Constraints of ASE as projectors: what each atom may do.

An atom that is held has the projector 0, a free one the identity; FixCartesian, FixedLine and FixedPlane leave some
directions. What a projector leaves of the forces is the gradient in the space that is left.
"""

from __future__ import annotations

import ase
import numpy as np
import torch
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixedLine, FixedPlane
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Floats, Ints, compiled

KEPT = (FixAtoms, FixCartesian, FixedLine, FixedPlane)


def projectors(atoms: ase.Atoms) -> Tensor:
    """(atoms, 3, 3) float64: the projector of each atom on the directions that its constraints leave.

    Raises:
        ValueError: a constraint that is not of KEPT, or several that hold the same atom in directions askew.
    """
    found = np.tile(np.eye(3), (len(atoms), 1, 1))
    if not atoms.constraints:
        return torch.from_numpy(found)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixBondLengths):  # of several atoms: see rigid.py
            continue
        if not isinstance(constraint, KEPT):
            raise ValueError(
                f"a {type(constraint).__name__} cannot be kept; those that can are "
                f"{', '.join(kept.__name__ for kept in KEPT)}; use the calculator with ASE for others"
            )
        found[constraint.index] = _leaves(constraint) @ found[constraint.index]
    if not np.allclose(found @ found, found):
        raise ValueError(
            "several constraints hold the same atom in directions that are neither parallel nor orthogonal"
        )
    return torch.from_numpy(found)


def resting(free: Tensor) -> Tensor:
    """(3, 3) projector on the directions in which every atom of a system may move, given the (atoms, 3, 3) of each.

    Along these nothing holds the system, and its momentum stays what it is.
    """
    values, vectors = torch.linalg.eigh(free.mean(dim=0))
    common = vectors[:, values > 1 - 0.5 / len(free)]  # one atom that is held makes it 1 - 1 / atoms
    return common @ common.T


def _leaves(constraint: FixAtoms | FixCartesian | FixedLine | FixedPlane) -> np.ndarray:
    """(3, 3) projector of one constraint."""
    if isinstance(constraint, FixAtoms):
        return np.zeros((3, 3))
    if isinstance(constraint, FixCartesian):
        return np.diag((~np.asarray(constraint.mask, dtype=bool)).astype(float))
    along = np.outer(constraint.dir, constraint.dir) / np.dot(constraint.dir, constraint.dir)
    return along if isinstance(constraint, FixedLine) else np.eye(3) - along


def moving_on_host(velocities: Tensor, masses: Tensor, free: Tensor, rest: Tensor, batch: Tensor) -> Tensor:
    """What `State.moving` says, on a CPU: of small systems, a dozen operations of torch take many times as long."""
    inputs = [x.contiguous() for x in (velocities, masses, free, rest, batch)]
    found = torch.empty_like(inputs[0])
    keep_moving(*(address(x) for x in inputs), len(batch), address(found))
    return found


@compiled
def keep_moving(
    velocities: Floats, masses: Floats, free: Floats, rest: Floats, batch: Ints, atoms: int, found: Floats
) -> None:
    i = 0
    while i < atoms:
        first, s = i, batch[i]
        mass, px, py, pz = 0.0, 0.0, 0.0, 0.0
        while i < atoms and batch[i] == s:
            for n in range(3 * i, 3 * i + 3):
                held = 0.0
                for k in range(3):
                    held += free[3 * n + k] * velocities[3 * i + k]
                found[n] = held
            mass += masses[i]
            px += masses[i] * found[3 * i]
            py += masses[i] * found[3 * i + 1]
            pz += masses[i] * found[3 * i + 2]
            i += 1
        for d in range(3):
            drift = (rest[9 * s + 3 * d] * px + rest[9 * s + 3 * d + 1] * py + rest[9 * s + 3 * d + 2] * pz) / mass
            for j in range(first, i):
                found[3 * j + d] -= drift
