"""State: the atoms of many systems on their way, as flat tensors that grow and shrink as systems come and go.

| field | shape | meaning |
|---|---|---|
| numbers, positions, batch | (atoms,), (atoms, 3), (atoms,) | as in AtomicGraph; positions need not be wrapped |
| cell, pbc | (systems, 3, 3), (systems, 3) | rows are lattice vectors |
| masses | (atoms,) | u |
| velocities | (atoms, 3) | A per unit of time, A sqrt(u/eV) |
| free | (atoms, 3, 3) | projector on the directions in which an atom may move |
| rest | (systems, 3, 3) | projector on the directions in which the centre of mass rests: no atom is held there |
| ends, lengths | (atoms, most ends) | rigid bonds of an atom to others, see rigid.py |
| still | (systems,) | degrees of rotation that are at rest and stay there, see velocities.py |
| index | (systems,) | which of the structures of a run this is, whatever else is in the batch |
| group | (systems,) | number of the first of the systems that move as one: images of a band, beads of a ring |
| step | (systems,) | how many steps it has made |
| energy, forces, stress | (systems,), (atoms, 3), (systems, 3, 3) | of the last evaluation, eV, eV/A, eV/A^3 |

Everything is float64 whatever the precision of the model, on the device on which it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Self, get_origin, get_type_hints

import ase
import numpy as np
import torch
from torch import Tensor

from atomsml.device import has_float64
from atomsml.graph import AtomicGraph
from atomsml.simulate.constraints import moving_on_host, projectors, resting
from atomsml.simulate.rigid import along_bonds, stars_of

PerAtom = Annotated[Tensor, "atom"]  # with a row for each atom
PerSystem = Annotated[Tensor, "system"]  # with a row for each system


@dataclass(eq=False)
class Flat:
    """Tensors of many systems, each with a row for each atom or for each system: states, and memories of methods.

    A subclass is a dataclass that declares its tensors as PerAtom or PerSystem, with eq=False: tensors have no truth
    value. What it has of other Flats is treated alike.
    """

    @property
    def levels(self) -> dict[str, str]:
        """Of each tensor, "atom" or "system"."""
        kind: Any = type(self)
        return _levels(kind)

    @property
    def parts(self) -> dict[str, Flat]:
        """The other Flats that it has."""
        kind: Any = type(self)
        return {name: getattr(self, name) for name in _parts(kind)}

    def take(self, atoms: Tensor, systems: Tensor) -> Self:
        """The rows of these atoms and systems."""
        rows = {"atom": atoms, "system": systems}
        tensors = {name: getattr(self, name)[rows[level]] for name, level in self.levels.items()}
        return replace(self, **tensors, **{name: part.take(atoms, systems) for name, part in self.parts.items()})

    def join(self, others: Sequence[Self]) -> Self:
        """The rows of `self`, then those of the others."""
        tensors = {name: torch.cat([getattr(x, name) for x in (self, *others)]) for name in self.levels}
        parts = {name: part.join([getattr(x, name) for x in others]) for name, part in self.parts.items()}
        return replace(self, **tensors, **parts)

    def to(self, device: torch.device | str) -> Self:
        tensors = {name: getattr(self, name).to(device) for name in self.levels}
        return replace(self, **tensors, **{name: part.to(device) for name, part in self.parts.items()})


@cache
def _levels(kind: type[Flat]) -> dict[str, str]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}


@cache
def _parts(kind: type[Flat]) -> list[str]:
    return [name for name, hint in get_type_hints(kind).items() if isinstance(hint, type) and issubclass(hint, Flat)]


@dataclass(eq=False)
class NoMemory(Flat):
    """Of a method that remembers nothing from step to step."""


@dataclass(eq=False)
class State(Flat):
    """Systems that relax or move; methods write into it. See the table above."""

    numbers: PerAtom
    positions: PerAtom
    masses: PerAtom
    velocities: PerAtom
    free: PerAtom
    ends: PerAtom
    lengths: PerAtom
    batch: PerAtom
    forces: PerAtom
    cell: PerSystem
    pbc: PerSystem
    rest: PerSystem
    still: PerSystem
    index: PerSystem
    group: PerSystem
    step: PerSystem
    energy: PerSystem
    stress: PerSystem

    @property
    def num_atoms(self) -> int:
        return len(self.positions)

    @property
    def num_systems(self) -> int:
        return len(self.cell)

    @property
    def device(self) -> torch.device:
        return self.positions.device

    @property
    def graph(self) -> AtomicGraph:
        """What a potential is asked for; without neighbours."""
        return AtomicGraph(self.positions, self.numbers, self.cell, self.pbc, self.batch)

    @property
    def atoms_per_system(self) -> Tensor:
        """(systems,) number of atoms of each."""
        return total(torch.ones_like(self.batch), self.batch, self.num_systems)  # bincount would wait for a device

    @property
    def degrees_of_freedom(self) -> Tensor:
        """(systems,) in how many directions something moves, float64: what temperatures count."""
        of_atoms = self.free.diagonal(dim1=1, dim2=2).sum(dim=1) - (self.ends != 0).sum(dim=1)
        moving = total(of_atoms, self.batch, self.num_systems)
        return moving - self.rest.diagonal(dim1=1, dim2=2).sum(dim=1) - self.still

    @property
    def has_rigid_bonds(self) -> bool:
        return self.ends.shape[1] > 0

    def held(self, vectors: Tensor) -> Tensor:
        """What the constraints leave of (atoms, 3) forces or velocities."""
        return torch.bmm(self.free, vectors[:, :, None])[:, :, 0]

    def moving(self, velocities: Tensor) -> Tensor:
        """What constraints and a resting centre of mass leave of (atoms, 3) velocities or accelerations."""
        if self.has_rigid_bonds:
            velocities = along_bonds(velocities, self.positions, self.masses, self.ends)
        if self.device.type == "cpu":
            return moving_on_host(velocities, self.masses, self.free, self.rest, self.batch)
        held = self.held(velocities)
        momentum = total(self.masses[:, None] * held, self.batch, self.num_systems)
        mass = total(self.masses, self.batch, self.num_systems)
        drift = torch.bmm(self.rest, (momentum / mass[:, None])[:, :, None])[:, :, 0]
        return held - drift[self.batch]

    @staticmethod
    def of(structures: Sequence[ase.Atoms], device: torch.device | str = "cpu") -> State:
        """One state of all structures, in order; constraints and momenta are kept, nothing is evaluated yet.

        Raises:
            ValueError: a constraint that cannot be kept (see `constraints.projectors`).
        """
        counts = torch.tensor([len(atoms) for atoms in structures])
        free, stars = [projectors(atoms) for atoms in structures], [stars_of(atoms) for atoms in structures]
        positions = _rows([each.positions for each in stars], (3,))
        systems = len(structures)
        state = State(
            numbers=torch.from_numpy(np.concatenate([atoms.numbers for atoms in structures]).astype(np.int64)),
            positions=positions,
            masses=_rows([atoms.get_masses() for atoms in structures], ()),
            velocities=_rows([atoms.get_velocities() for atoms in structures], (3,)),
            free=torch.cat(free),
            ends=_padded([each.ends for each in stars]),
            lengths=_padded([each.lengths for each in stars]),
            batch=torch.repeat_interleave(counts),
            forces=torch.full_like(positions, torch.nan),
            cell=torch.from_numpy(np.stack([atoms.cell.array for atoms in structures]).astype(np.float64)),
            pbc=torch.from_numpy(np.stack([atoms.pbc for atoms in structures])),
            rest=torch.stack([resting(each) for each in free]),
            still=torch.zeros(systems, dtype=torch.float64),
            index=torch.arange(systems),
            group=torch.arange(systems),
            step=torch.zeros(systems, dtype=torch.int64),
            energy=torch.full((systems,), torch.nan, dtype=torch.float64),
            stress=torch.full((systems, 3, 3), torch.nan, dtype=torch.float64),
        )
        _check_free(state)
        return state.to(device)

    def systems(self, chosen: Tensor) -> State:
        """The systems whose numbers in the batch are in `chosen` (ascending); of a group all or none."""
        return self.take(self.atoms_of(chosen), chosen)

    def atoms_of(self, chosen: Tensor) -> Tensor:
        """The numbers of the atoms of these systems."""
        wanted = torch.zeros(self.num_systems, dtype=torch.bool, device=self.device)
        wanted[chosen] = True
        return wanted[self.batch].nonzero().flatten()

    def take(self, atoms: Tensor, systems: Tensor) -> Self:
        taken = super().take(atoms, systems)
        place = torch.empty(self.num_systems, dtype=torch.int64, device=self.device)
        place[systems] = torch.arange(len(systems), device=self.device)
        taken.batch, taken.group = place[taken.batch], place[taken.group]
        return taken

    def join(self, others: Sequence[Self]) -> Self:
        joined = super().join(others)
        parts = (self, *others)
        starts = np.cumsum([0, *(part.num_systems for part in parts)]).tolist()
        joined.batch = torch.cat([part.batch + start for part, start in zip(parts, starts, strict=False)])
        joined.group = torch.cat([part.group + start for part, start in zip(parts, starts, strict=False)])
        return joined

    def write_to(self, structures: Sequence[ase.Atoms]) -> list[ase.Atoms]:
        """Copies of the structures, one for each system here, that stand and move as the systems do.

        Labels, tags, info and constraints are those of the structures; energy, forces and, where it is known, stress
        come with a SinglePointCalculator.
        """
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = self.atoms_per_system.tolist()
        of_atoms = [x.cpu().numpy() for x in (self.positions, self.velocities, self.forces)]
        parts = zip(*(np.split(x, np.cumsum(atoms)[:-1]) for x in of_atoms), strict=True)
        cells, energies, stresses = self.cell.cpu().numpy(), self.energy.tolist(), self.stress.cpu().numpy()
        copies = []
        for i, (structure, (positions, velocities, forces)) in enumerate(zip(structures, parts, strict=True)):
            copy = structure.copy()
            copy.set_constraint()
            copy.set_cell(cells[i])
            copy.positions = positions
            if velocities.any():
                copy.set_velocities(velocities)
            copy.set_constraint(structure.constraints)
            results = {"energy": energies[i], "forces": forces}
            if np.isfinite(stresses[i]).all():
                results["stress"] = stresses[i].ravel()[[0, 4, 8, 5, 2, 1]]
            copy.calc = SinglePointCalculator(copy, **results)
            copies.append(copy)
        return copies


def _rows(parts: Sequence[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float64).reshape(-1, *shape))


def _padded(parts: Sequence[np.ndarray]) -> Tensor:
    """Rows of all, as wide as the widest, with zeros behind."""
    width = max((part.shape[1] for part in parts), default=0)
    return torch.from_numpy(np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]))


def _check_free(state: State) -> None:
    """
    Raises:
        ValueError: an atom of a rigid bond is held as well.
    """
    centres, _ = state.ends.nonzero(as_tuple=True)
    bonded = torch.cat([centres, centres + state.ends[state.ends != 0]])
    if not torch.equal(state.free[bonded], torch.eye(3, dtype=state.free.dtype).expand(len(bonded), 3, 3)):
        raise ValueError("an atom of a rigid bond cannot be held as well; hold others, or leave one of both out")


def place_of(device: torch.device | str) -> torch.device:
    """Where the states of a model on this device are: there, or on the CPU where the device has no float64."""
    device = torch.device(device)
    return device if has_float64(device) else torch.device("cpu")


def total(values: Tensor, of: Tensor, count: int) -> Tensor:
    """Sums of rows that belong together: of atoms over their systems (`of` is batch), of systems over their groups."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, of, values)
