"""How a cell may move under pressure.

A motion has a strain e (systems, 3, 3) for each system. Applied, it multiplies positions and the rows of the cell by
exp(G) from the right, with a generator G(e), and velocities by exp(-G^T), so that the momenta stay conjugate to
fractional coordinates. The inverse of e is -e: nothing else is asked of a motion for barostats to be reversible.

| name | e | G | what may change |
|---|---|---|---|
| isotropic | a multiple of the identity | e | the volume |
| anisotropic | diagonal, along the lattice vectors | h^-1 e h | the lengths of the three vectors; angles stay |
| full | symmetric | e | lengths and angles; the cell does not rotate |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.simulate.dynamics import CELL_MOTIONS
from atomsml.simulate.state import State, total


class CellMotion(ABC):
    """The strains that a cell may undergo."""

    freedom: ClassVar[int]  # degrees of freedom

    @abstractmethod
    def project(self, matrix: Tensor) -> Tensor:
        """The strain e that is closest to a matrix (systems, 3, 3)."""

    def force(self, work: Tensor, cell: Tensor) -> Tensor:
        """Minus the derivative of an energy by e, from the symmetric `work`, minus that by a Cartesian strain."""
        return self.project(work)

    def generator(self, strain: Tensor, cell: Tensor) -> Tensor:
        """(systems, 3, 3) G; a cell that it moves has the same."""
        return strain


class Isotropic(CellMotion):
    freedom = 1

    def project(self, matrix: Tensor) -> Tensor:
        mean = matrix.diagonal(dim1=1, dim2=2).mean(dim=1)
        return torch.diag_embed(mean[:, None].expand(-1, 3))


class Anisotropic(CellMotion):
    freedom = 3

    def project(self, matrix: Tensor) -> Tensor:
        return torch.diag_embed(matrix.diagonal(dim1=1, dim2=2))

    def force(self, work: Tensor, cell: Tensor) -> Tensor:
        return self.project(cell @ work @ inverse(cell))

    def generator(self, strain: Tensor, cell: Tensor) -> Tensor:
        return inverse(cell) @ strain @ cell


class Full(CellMotion):
    freedom = 6

    def project(self, matrix: Tensor) -> Tensor:
        return (matrix + matrix.mT) / 2


def cell_motion(name: str) -> CellMotion:
    """That of a name of CELL_MOTIONS.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in CELL_MOTIONS:
        raise ValueError(f"unknown motion of the cell {name!r}; there are {', '.join(CELL_MOTIONS)}")
    return {"isotropic": Isotropic(), "anisotropic": Anisotropic(), "full": Full()}[name]


def inverse(matrices: Tensor) -> Tensor:
    """Inverses, without the check for singular ones, for which a GPU would be waited for."""
    return torch.linalg.inv_ex(matrices).inverse


def exponential(generator: Tensor) -> tuple[Tensor, Tensor]:
    """exp(G) and exp(-G) of (systems, 3, 3), exact inverses of each other.

    The Pade approximant [3/3]: wrong by |G|^7 / 100,800, which is rounding for |G| < 0.03. A cell strains by a
    thousandth in a time step.
    """
    square = generator @ generator
    one = torch.eye(3, dtype=generator.dtype, device=generator.device)
    odd, even = generator @ (one / 2 + square / 120), one + square / 10
    forward = inverse(even - odd) @ (even + odd)
    return forward, inverse(forward)


def transform(vectors: Tensor, matrices: Tensor, batch: Tensor) -> Tensor:
    """(atoms, 3) rows times the matrix (systems, 3, 3) of their system."""
    return torch.bmm(vectors[:, None], matrices[batch])[:, 0]


def strain_work(state: State, pressure: Tensor, extra: Tensor) -> Tensor:
    """(systems, 3, 3) sum of m v v^T - V stress + (extra - P V) 1, eV: what drives the cell.

    Without `extra` it is minus the derivative of kinetic energy, potential energy and P V by the strain, at fixed
    fractional coordinates and their momenta.

    Args:
        pressure: (systems,) P, eV/A^3.
        extra: (systems,) eV.
    """
    flow = state.masses[:, None, None] * state.velocities[:, :, None] * state.velocities[:, None, :]
    size = volume(state.cell)
    one = torch.eye(3, dtype=size.dtype, device=size.device)
    inner = total(flow, state.batch, state.num_systems) - size[:, None, None] * state.stress
    return inner + (extra - pressure * size)[:, None, None] * one


def check_movable(state: State) -> None:
    """Refuse systems that no barostat can treat.

    Raises:
        ValueError: axes that are not periodic, atoms that are held, or rigid bonds.
    """
    if not state.pbc.all():
        raise ValueError("a system under pressure must be periodic along its three axes; run others at constant volume")
    if (volume(state.cell) <= 0).any():
        raise ValueError("a system under pressure must have a cell with a volume")
    if state.has_rigid_bonds:
        raise ValueError("bonds cannot be rigid while the cell moves with the pressure; take constant volume")
    if not torch.equal(state.free, torch.eye(3, device=state.device).to(state.free).expand_as(state.free)):
        raise ValueError("atoms cannot be held while the cell moves with the pressure; release them or fix the cell")
