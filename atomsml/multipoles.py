"""Charges, dipoles and quadrupoles as a network has learned them, beside the energies and without a say in them.

Each atom gets a charge, a dipole and a quadrupole of its own from its features. The charges q sum to the total charge Q
of the system, because what they miss is shared out evenly among its n atoms, as in PhysNet (Unke & Meuwly, J. Chem.
Theory Comput. 15, 3678 (2019)):

    q_i = q'_i + (Q - sum_j q'_j) / n
    d = sum_i (q_i r_i + d_i)
    M = sum_i (q_i r_i r_i + r_i d_i + d_i r_i + M_i),    quadrupole = M - tr(M) / 3

A dipole points from negative to positive charge. The quadrupole, and the dipole of an ion, are about the origin of the
coordinates, as other programs give them: they change where a molecule is moved. The quadrupole is the traceless second
moment, two thirds of Buckingham's. A periodic system has neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atomsml.graph import AtomicGraph
from atomsml.nn.linear import MLP

GATES = 16  # vectors of an atom: weighted by its scalars, they sum to its dipole, and their squares to its quadrupole


@dataclass(frozen=True, eq=False)
class Multipoles:
    """Of the atoms and systems of a graph, in the type of its positions."""

    charges: Tensor  # (atoms,) e
    dipole: Tensor  # (systems, 3) e A; NaN for a periodic system
    quadrupole: Tensor  # (systems, 3, 3) e A^2, traceless; NaN for a periodic system

    def detach(self) -> Multipoles:
        return Multipoles(self.charges.detach(), self.dipole.detach(), self.quadrupole.detach())


class ChargeHead(nn.Module):
    """Charges, dipoles and quadrupoles of atoms from their features; a new one says zero.

    Args:
        scalars: channels of scalars.
        vectors: channels of vectors; 0: atoms have charges only.
        hidden: width of the hidden layer.
    """

    def __init__(self, scalars: int, vectors: int, hidden: int) -> None:
        super().__init__()
        self.mlp = MLP((scalars, hidden, 1 + (2 * GATES if vectors else 0)))
        nn.init.zeros_(self.mlp.weights[-1])
        self.mix = nn.Parameter(torch.randn(vectors, GATES)) if vectors else None

    def forward(self, scalars: Tensor, vectors: Tensor, graph: AtomicGraph, total: float) -> Multipoles:
        """
        Args:
            scalars: (atoms, scalars).
            vectors: (atoms, 3, vectors), in the order x, y, z.
            total: charge of each system, e.
        """
        said = self.mlp(scalars)
        charges = neutralized(said[:, 0].to(graph.dtype), graph, total)
        if self.mix is None:
            return multipoles(charges, None, None, graph)
        mixed = vectors @ (self.mix / math.sqrt(len(self.mix)))
        of_dipole, of_quadrupole = said[:, None, 1:].split(GATES, dim=2)
        dipoles, quadrupoles = (mixed * of_dipole).sum(dim=2), (mixed * of_quadrupole) @ mixed.mT
        return multipoles(charges, dipoles.to(graph.dtype), quadrupoles.to(graph.dtype), graph)


def neutralized(charges: Tensor, graph: AtomicGraph, total: float) -> Tensor:
    """(atoms,) charges that sum to `total` in each system: what they miss is shared out evenly."""
    missing = total - charges.new_zeros(graph.num_systems).index_add(0, graph.batch, charges)
    return charges + (missing / graph.atoms_per_system.clamp(min=1))[graph.batch]


def multipoles(charges: Tensor, dipoles: Tensor | None, quadrupoles: Tensor | None, graph: AtomicGraph) -> Multipoles:
    """Those of systems from those of their atoms: (atoms,), (atoms, 3), (atoms, 3, 3), of which a trace goes unseen."""
    r = graph.positions
    first = charges[:, None] * r
    second = first[:, :, None] * r[:, None, :]
    if dipoles is not None:
        first = first + dipoles
        outer = r[:, :, None] * dipoles[:, None, :]
        second = second + outer + outer.mT
    if quadrupoles is not None:
        second = second + quadrupoles
    dipole = r.new_zeros(graph.num_systems, 3).index_add(0, graph.batch, first)
    moment = r.new_zeros(graph.num_systems, 3, 3).index_add(0, graph.batch, second)
    trace = moment.diagonal(dim1=1, dim2=2).sum(dim=1)
    traceless = moment - trace[:, None, None] / 3 * torch.eye(3, dtype=r.dtype, device=r.device)
    periodic = graph.pbc.any(dim=1)
    return Multipoles(
        charges=charges,
        dipole=torch.where(periodic[:, None], torch.nan, dipole),
        quadrupole=torch.where(periodic[:, None, None], torch.nan, traceless),
    )
