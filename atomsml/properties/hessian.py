"""Hessians: second derivatives of the energy by the positions, from forces of displaced copies.

    H_ij = d2E / dx_i dx_j = -(F_j(x + h e_i) - F_j(x - h e_i)) / 2h,    made symmetric

All copies of all structures are evaluated in few batches. On a CPU this takes a fifth of the time that exact second
derivatives by autograd take (ethanol, MACE), because the program without autograd is that much quicker.

The step h of 0.001 A suits stiff bonds at the wall of a repulsion, where the third derivative is thousands of eV/A^3:
beside autograd, water, ethanol and benzene by organic-xtb are off by 0.001 to 0.004 eV/A^2 of up to 60, whether the
network is in float32 (`precision="mixed"`) or float64. In single precision throughout, rounding is larger than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.constraints import FixAtoms
from numpy.typing import NDArray

from atomsml.properties.engine import Engine
from atomsml.properties.task import MOST_WAITING, Failure

Array = NDArray[np.float64]

STEP = 0.001  # A


def moving_atoms(atoms: ase.Atoms) -> NDArray[np.int64]:
    """Numbers of the atoms that FixAtoms does not hold.

    Raises:
        ValueError: another constraint, which leaves directions and not atoms; or no atom is left.
    """
    others = [each for each in atoms.constraints if not isinstance(each, FixAtoms)]
    if others:
        raise ValueError(f"second derivatives know atoms that are held as a whole, not {type(others[0]).__name__}")
    held = {int(i) for each in atoms.constraints for i in each.index}
    moving = np.array([i for i in range(len(atoms)) if i not in held], dtype=np.int64)
    if len(moving) == 0:
        raise ValueError("all atoms are held: there is nothing to displace")
    return moving


@dataclass(frozen=True, eq=False)
class Derivatives:
    """By the coordinates of the M atoms that are not held."""

    hessian: Array  # (3M, 3M) of the energy, eV/A^2
    dipole: Array | None  # (3M, 3) of the dipole, e; None: the model has no dipoles


def hessians(
    structures: Sequence[ase.Atoms], engine: Engine, step: float = STEP
) -> Iterator[tuple[int, Array | Failure]]:
    """Of each structure (3M, 3M) eV/A^2 of the M atoms that are not held, by its place in the list, in order.

    Raises:
        ValueError: as `moving_atoms`.
    """
    for i, found in derivatives(structures, engine, step):
        yield i, found if isinstance(found, Failure) else found.hessian


def derivatives(
    structures: Sequence[ase.Atoms], engine: Engine, step: float = STEP
) -> Iterator[tuple[int, Derivatives | Failure]]:
    """Hessians, and what the dipole does, as `hessians`."""
    moving = [moving_atoms(atoms) for atoms in structures]
    for some in _parts([6 * len(each) * len(atoms) for each, atoms in zip(moving, structures, strict=True)]):
        copies = [copy for i in some for copy in displaced(structures[i], moving[i], step)]
        found = iter(engine.evaluate(copies))
        for i in some:
            images = [next(found) for _ in range(6 * len(moving[i]))]
            forces = np.array([image.get_forces(apply_constraint=False)[moving[i]].ravel() for image in images])
            if not np.isfinite(forces).all():
                yield i, Failure("the model gives no finite forces for a displaced copy of it; do atoms overlap?")
                continue
            hessian = -difference(forces, step)
            dipoles = [image.calc.results.get("dipole") for image in images]
            dipole = None if any(each is None for each in dipoles) else difference(np.array(dipoles), step)
            yield i, Derivatives((hessian + hessian.T) / 2, dipole)


def displaced(atoms: ase.Atoms, moving: NDArray[np.int64], step: float) -> list[ase.Atoms]:
    """Copies with one coordinate moved by + and - step (A): those of the first atom along x, y, z, then of the next."""
    copies = []
    for atom in moving:
        for axis in range(3):
            for sign in (1, -1):
                copy = atoms.copy()
                copy.positions[atom, axis] += sign * step
                copies.append(copy)
    return copies


def difference(values: Array, step: float) -> Array:
    """(3M, ...) derivatives of what (6M, ...) copies of `displaced` have."""
    found: Array = (values[0::2] - values[1::2]) / (2 * step)
    return found


def _parts(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Places in order, in parts of so many atoms of copies as wait for each other."""
    part, atoms = list[int](), 0
    for i, size in enumerate(sizes):
        if part and atoms + size > MOST_WAITING:
            yield part
            part, atoms = [], 0
        part.append(i)
        atoms += size
    if part:
        yield part
