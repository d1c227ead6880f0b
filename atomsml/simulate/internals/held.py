"""Relaxations that hold lengths, angles and torsions at values: the FixInternals of ASE, many systems at once.

With the gradients G (a row for each coordinate that is held) and the projector P of constraints of single atoms, what
is left of the forces F is P (F - G^T l), where (G P G^T) l = G P F: no step along it changes a held coordinate, to
first order. What a step changes to second order is mended by Newton's method, which moves atoms along P G^T only. So
the coordinates have their values to rounding at each evaluation, and the force along them is what is not relaxed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from ase.constraints import FixInternals
from torch import Tensor

from atomsml.simulate.cell import Coordinates
from atomsml.simulate.internals.coordinates import differences, internal_gradients
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, PerSystem, State, total

ITERATIONS = 6  # of Newton's method, which doubles the digits
FIRST_ITERATIONS = 30  # where a structure begins away from the values
WEIGHT = 1e3  # eV/A per A or radian: as such a force counts what is missing to a value


@dataclass(eq=False)
class HeldMemory(Flat):
    """The held coordinates of each system; where it has fewer than others, counts are 0."""

    atoms: PerSystem  # (systems, most, 4) numbers of atoms within the system
    counts: PerSystem  # (systems, most) how many atoms: 2 a length, 3 an angle, 4 a torsion
    values: PerSystem  # (systems, most) A or radians


def held_in(structures: Sequence[ase.Atoms]) -> HeldMemory | None:
    """What the FixInternals among the constraints of the structures hold; None where there are none.

    Raises:
        ValueError: combinations of bonds, periodic images, or atoms that are not there or named twice.
    """
    rows = [_rows(atoms) for atoms in structures]
    most = max(map(len, rows), default=0)
    if most == 0:
        return None
    atoms, counts = np.zeros((len(rows), most, 4), np.int64), np.zeros((len(rows), most), np.int64)
    values = np.zeros((len(rows), most))
    for i, some in enumerate(rows):
        for k, (value, of) in enumerate(some):
            atoms[i, k, : len(of)], counts[i, k], values[i, k] = of, len(of), value
    return HeldMemory(torch.from_numpy(atoms), torch.from_numpy(counts), torch.from_numpy(values))


def without_held(atoms: ase.Atoms) -> ase.Atoms:
    """The atoms with their other constraints."""
    others = [each for each in atoms.constraints if not isinstance(each, FixInternals)]
    if len(others) == len(atoms.constraints):
        return atoms
    copy = atoms.copy()
    copy.set_constraint(others)
    return copy


def _rows(atoms: ase.Atoms) -> list[tuple[float, list[int]]]:
    found = list[tuple[float, list[int]]]()
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixInternals):
            continue
        if constraint.bondcombos or constraint.mic:
            raise ValueError("lengths, angles and torsions can be held, without images; no combinations of bonds")
        of_all = (constraint.bonds, 1.0, atoms.get_distance), (constraint.angles, np.pi / 180, atoms.get_angle)
        for rows, unit, now in (*of_all, (constraint.dihedrals, np.pi / 180, atoms.get_dihedral)):
            found += [(unit * (now(*of) if value is None else value), [int(i) for i in of]) for value, of in rows]
    for _, of in found:
        if len(set(of)) < len(of) or not 0 <= min(of) <= max(of) < len(atoms):
            raise ValueError(f"a held coordinate is of different atoms between 0 and {len(atoms) - 1}, not of {of}")
    return found


class HeldInternals(Coordinates[HeldMemory]):
    """The positions, in A, of systems of which some coordinates are held.

    Args:
        held: of the structures of a run, by their numbers (`State.index`).
    """

    needs_stress = False

    def __init__(self, held: HeldMemory) -> None:
        self.held = held

    def start(self, state: State) -> HeldMemory:
        index = state.index.cpu()
        memory = self.held.take(index, index).to(state.device)
        state.positions = _restored(state, memory, state.positions, FIRST_ITERATIONS)
        return memory

    def variables(self, state: State, memory: HeldMemory) -> Vector:
        return Vector(state.positions, state.cell[:, :0], state.batch, state.group)

    def forces(self, state: State, memory: HeldMemory) -> Vector:
        _, gradients = _gradients(state, memory, state.positions)
        forces = state.held(state.forces)
        left = forces - _along(state, memory, gradients, total(_dots(gradients, forces), state.batch, len(state.cell)))
        return Vector(left, state.cell[:, :0], state.batch, state.group)

    def energy(self, state: State) -> Tensor:
        return state.energy

    def residual(self, state: State, memory: HeldMemory) -> tuple[Tensor, Tensor]:
        values, gradients = _gradients(state, memory, state.positions)
        missing = WEIGHT * differences(values, memory.values, memory.counts)[state.batch]
        forces = self.forces(state, memory).atoms + torch.einsum("nk,nkd->nd", missing, gradients)
        return forces, torch.zeros_like(state.cell)

    def move(self, state: State, memory: HeldMemory, variables: Vector) -> None:
        state.positions = _restored(state, memory, variables.atoms, ITERATIONS)


def _restored(state: State, memory: HeldMemory, positions: Tensor, iterations: int) -> Tensor:
    """Positions next to these, where the coordinates have their values."""
    for _ in range(iterations):
        values, gradients = _gradients(state, memory, positions)
        apart = differences(values, memory.values, memory.counts)
        positions = positions - _along(state, memory, gradients, apart)
    return positions


def _gradients(state: State, memory: HeldMemory, positions: Tensor) -> tuple[Tensor, Tensor]:
    """(systems, most) values, and (atoms, most, 3) derivatives of those of its system by each atom."""
    systems, most = memory.counts.shape
    first = torch.cumsum(state.atoms_per_system, dim=0) - state.atoms_per_system
    atoms = memory.atoms + first[:, None, None]
    values, rows = internal_gradients(positions[atoms].flatten(0, 1), memory.counts.flatten())
    places = (atoms * most + torch.arange(most, device=state.device)[:, None]).flatten()
    gradients = positions.new_zeros(len(positions) * most, 3).index_add_(0, places, rows.flatten(0, 1))
    return values.reshape(systems, most), gradients.reshape(len(positions), most, 3)


def _along(state: State, memory: HeldMemory, gradients: Tensor, wanted: Tensor) -> Tensor:
    """(atoms, 3) the shortest moves along the gradients that change the coordinates by `wanted` (systems, most)."""
    free = torch.einsum("nij,nkj->nki", state.free, gradients)
    metric = total(torch.einsum("nkd,nld->nkl", gradients, free), state.batch, len(state.cell))
    metric = metric + torch.diag_embed((memory.counts == 0).to(metric))
    factors = torch.linalg.solve_ex(metric, wanted)[0]
    return torch.einsum("nk,nkd->nd", factors[state.batch], free)


def _dots(gradients: Tensor, vectors: Tensor) -> Tensor:
    return torch.einsum("nkd,nd->nk", gradients, vectors)
