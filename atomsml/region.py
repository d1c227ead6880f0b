"""Part of a large system: some atoms whose energies count, and around them all atoms on which these energies depend.

A process of a simulation over many processes has such a part: its own (local) atoms, and copies (ghosts) of those of
other processes and of periodic images, at their places. An energy E_i reaches as far as the network has hops from atom
to atom, `Potential.hops` times the cutoff. With E the sum of E_i over the atoms that count

    F_j = -dE/dx_j        of all atoms, also of ghosts, to whose owners they are returned and added up
    W = dE/dstrain = sum over j of W_j,  W_j = sum over edges e into j of r_e (dE/dr_e)^T

Atoms are sorted by shell: first those that count, then those that an edge leads from to one of them, and so on. All
copies of an atom are one atom, to which edges lead through the cell: no region is larger than the system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.geometry import apply_strain
from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.neighbors.checks import connect_checked
from atomsml.potential import Potential


@dataclass(frozen=True, eq=False)
class Region:
    """A graph of one system, and how many of its atoms are within 0, 1, ..., hops - 1 edges of those that count.

    Only atoms within hops - 1 edges need have edges: those still farther out are neighbours and no centres.
    """

    graph: NeighborGraph
    shells: tuple[int, ...]

    @staticmethod
    def around(atoms: Copies, counted: int, cutoff: float, hops: int) -> tuple[Region, Tensor]:
        """The region of which the first atoms count, and (atoms of the region,) which of the copies are in it.

        Raises:
            ImpossibleGeometry: two atoms in one place, or a position that is not finite.
        """
        sender, receiver = connect_checked(atoms.without_cell(), cutoff).edge_index
        shell = _shells(sender, receiver, len(atoms.positions), counted, hops)
        kept, node = _one_of_each(atoms.tags, shell, hops)
        chosen = torch.zeros_like(shell, dtype=torch.bool)
        chosen[kept] = True
        centres = chosen[receiver] & (shell[receiver] < hops)
        sender, receiver = sender[centres], node[receiver[centres]]
        receiver, by_receiver = receiver.sort(stable=True)
        sender = sender[by_receiver]
        apart = atoms.positions - atoms.positions[kept][node]
        offsets = torch.linalg.solve(atoms.cell.mT, apart.mT).mT.round().long()
        device = atoms.positions.device
        graph = AtomicGraph(
            positions=atoms.positions[kept],
            numbers=atoms.numbers[kept],
            cell=atoms.cell[None],
            pbc=torch.ones(1, 3, dtype=torch.bool, device=device),
            batch=torch.zeros(len(kept), dtype=torch.int64, device=device),
        )
        connected = graph.with_edges(torch.stack([node[sender], receiver]), offsets[sender])
        return Region(connected, tuple(int((shell[kept] <= k).sum()) for k in range(hops))), kept

    def within(self, hops: int) -> Region:
        """The same for a network that reaches less far."""
        return Region(self.graph, self.shells[:hops])

    def moved(self, positions: Tensor, cell: Tensor) -> Region:
        """The same after a step, with the same neighbours."""
        graph = self.graph.replace(positions=positions, cell=cell[None])
        return Region(graph.with_edges(self.graph.edge_index, self.graph.cell_offsets), self.shells)


@dataclass(frozen=True, eq=False)
class Copies:
    """Atoms and their images at their places, as a process of a simulation knows them."""

    positions: Tensor  # (copies, 3) A
    numbers: Tensor  # (copies,) atomic numbers
    tags: Tensor  # (copies,) the same number for all copies of an atom
    cell: Tensor  # (3, 3) A, of which copies of an atom are multiples apart

    def without_cell(self) -> AtomicGraph:
        device = self.positions.device
        return AtomicGraph(
            positions=self.positions,
            numbers=self.numbers,
            cell=torch.zeros_like(self.cell)[None],
            pbc=torch.zeros(1, 3, dtype=torch.bool, device=device),
            batch=torch.zeros(len(self.positions), dtype=torch.int64, device=device),
        )


def _shells(sender: Tensor, receiver: Tensor, atoms: int, counted: int, hops: int) -> Tensor:
    """(atoms,) how many edges away from the first atoms each one is; hops + 1 of those that are farther."""
    shell = torch.full((atoms,), hops + 1, device=sender.device)
    shell[:counted] = 0
    for k in range(1, hops + 1):
        reached = sender[shell[receiver] < k]
        shell[reached] = shell[reached].clamp(max=k)
    return shell


def _one_of_each(tags: Tensor, shell: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """The innermost copy of each atom within hops, sorted by shell, and (copies,) at which place there that one is.

    The innermost one has all its neighbours around it, if any copy has. Places of copies that are farther mean nothing.
    """
    order = shell.argsort(stable=True)
    kinds, kind = torch.unique(tags[order], return_inverse=True)
    counting = torch.arange(len(order), device=tags.device)
    first = torch.full_like(kinds, len(order)).scatter_reduce(0, kind, counting, "amin")
    kept, by_place = first.sort()
    place = torch.empty_like(kinds)
    place[by_place] = torch.arange(len(kinds), device=tags.device)
    node = torch.empty_like(order)
    node[order] = place[kind]
    kept = order[kept]
    inside = int((shell[kept] <= hops).sum())
    return kept[:inside], node.clamp(max=inside - 1)


@dataclass(frozen=True, eq=False)
class RegionPrediction:
    """What a potential says of a region."""

    atom_energies: Tensor  # (atoms that count,) eV
    forces: Tensor  # (atoms, 3) eV/A, of the sum of these energies
    virial: Tensor  # (3, 3) eV, symmetric: W
    atom_virials: Tensor | None  # (atoms, 3, 3) eV, symmetric: W_j; None where nothing is known of single edges


RegionPredictor = Callable[[Region], RegionPrediction]


def evaluate_region(potential: Potential, region: Region) -> RegionPrediction:
    """By autograd, for any architecture; it computes all atoms of the region in all layers."""
    near = region.graph.closer_than(potential.cutoff)
    positions = near.positions.detach().requires_grad_()
    with torch.enable_grad():
        strain = torch.zeros_like(near.cell, requires_grad=True)
        strained, cell = apply_strain(positions, near.cell, 0.5 * (strain + strain.mT), near.batch)
        energies = potential(near.replace(positions=strained, cell=cell))[: region.shells[0]]
        variables = [positions, strain]
        gradient, virial = torch.autograd.grad(energies.sum(), variables, materialize_grads=True)
    return RegionPrediction(energies.detach(), -gradient, virial[0], None)
