"""Vector: the variables of many systems, or steps and forces in their space."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atomsml.simulate.state import total


@dataclass(frozen=True, eq=False)
class Vector:
    """One vector for each group of systems: rows of its atoms, and rows of its cells where those vary.

    Sums run over a group, since its systems move as one. What is summed comes back with a row for each system, the
    same for all of a group.
    """

    atoms: Tensor  # (atoms, 3)
    cell: Tensor  # (systems, 3, 3), or (systems, 0, 3) where cells do not vary
    batch: Tensor  # (atoms,) the system of each atom
    group: Tensor  # (systems,) the first system of its group

    def like(self, atoms: Tensor, cell: Tensor) -> Vector:
        """Another vector of the same systems."""
        return replace(self, atoms=atoms, cell=cell)

    def __add__(self, other: Vector) -> Vector:
        return self.like(self.atoms + other.atoms, self.cell + other.cell)

    def __sub__(self, other: Vector) -> Vector:
        return self.like(self.atoms - other.atoms, self.cell - other.cell)

    def times(self, factor: Tensor) -> Vector:
        """Each system times its number in factor (systems,)."""
        return self.like(factor[self.batch, None] * self.atoms, factor[:, None, None] * self.cell)

    def where(self, chosen: Tensor, other: Vector) -> Vector:
        """This vector for the systems of which chosen (systems,) is true, the other for the rest."""
        atoms = torch.where(chosen[self.batch, None], self.atoms, other.atoms)
        return self.like(atoms, torch.where(chosen[:, None, None], self.cell, other.cell))

    def dot(self, other: Vector) -> Tensor:
        """(systems,) scalar products."""
        of_atoms = total((self.atoms * other.atoms).sum(dim=1), self.batch, len(self.cell))
        return self.over_groups(of_atoms + (self.cell * other.cell).sum(dim=(1, 2)))

    def over_groups(self, values: Tensor) -> Tensor:
        """Sums of values (systems, ...) over the group of each system."""
        return total(values, self.group, len(self.cell))[self.group]

    def longest(self) -> Tensor:
        """(systems,) length of the longest row."""
        rows = torch.linalg.vector_norm(self.cell, dim=2)
        rows = torch.cat([rows, rows.new_zeros(len(rows), 1)], dim=1).amax(dim=1)
        rows = rows.scatter_reduce(0, self.batch, torch.linalg.vector_norm(self.atoms, dim=1), "amax")
        return torch.zeros_like(rows).scatter_reduce(0, self.group, rows, "amax")[self.group]
