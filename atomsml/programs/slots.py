"""How a program without autograd counts its atoms, what it has memory for, and how threads share the work.

Atoms are counted in slots: as in the graph, but sorted by element within each chunk of CHUNK atoms. Neighbours of one
element are a run. Where only the energies of some atoms count (atomsml/region.py), chunks begin anew at each shell.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Ints, compiled
from atomsml.graph import NeighborGraph
from atomsml.programs.irrep_linear import Runs
from atomsml.programs.plan import Rows

CHUNK = 16  # atoms: their messages fill the second-level cache
LITTLE, FAR_TOO_MUCH = 1024, 16  # atoms for which memory is always kept; times as many as there are
PART_SIZES = (3, 2, 1)  # of each thread, relative: large ones first, so that threads end at almost the same time


@dataclass(frozen=True)
class Sizes:
    """Of a graph, or what there is memory for."""

    atoms: int
    systems: int
    edges: int
    neighbors: int  # of one atom

    @staticmethod
    def of(graph: NeighborGraph) -> Sizes:
        neighbors = np.bincount(graph.edge_index[1].numpy(), minlength=1).max()
        return Sizes(graph.num_atoms, graph.num_systems, graph.num_edges, int(neighbors))

    def _all(self) -> tuple[int, int, int, int]:
        return self.atoms, self.systems, self.edges, self.neighbors

    def hold(self, other: Sizes) -> bool:
        return all(map(operator.ge, self._all(), other._all()))

    def wasted_on(self, other: Sizes) -> bool:
        """Whether so much memory should not be kept for the other."""
        return self.atoms > LITTLE and self.atoms > FAR_TOO_MUCH * other.atoms

    def times(self, factor: float) -> Sizes:
        return Sizes(*(int(factor * x) + 1 for x in self._all()))

    def larger(self, other: Sizes, factor: float) -> Sizes:
        """The same where it holds the other, else as large as that times a factor."""
        pairs = zip(self._all(), other._all(), other.times(factor)._all(), strict=True)
        return Sizes(*(mine if mine >= x else more for mine, x, more in pairs))


@dataclass(frozen=True)
class Topology:
    """All of a graph but its geometry: its tensors, and how often each had been changed in place, if torch knows."""

    tensors: tuple[Tensor, ...]
    versions: tuple[int | None, ...]
    shells: tuple[int, ...]  # of a region; empty where all atoms count

    @staticmethod
    def of(graph: NeighborGraph, shells: tuple[int, ...] = ()) -> Topology:
        tensors = (graph.edge_index, graph.cell_offsets, graph.batch, graph.numbers)
        return Topology(tensors, tuple(None if x.is_inference() else x._version for x in tensors), shells)

    def is_same(self, other: Topology) -> bool:
        known = None not in self.versions and self.versions == other.versions and self.shells == other.shells
        return known and all(map(operator.is_, self.tensors, other.tensors))


class Slots:
    """Which atom is in which slot, with room for some atoms.

    Args:
        elements: atomic numbers that the program knows; species are places among them.
    """

    def __init__(self, elements: tuple[int, ...], atoms: int) -> None:
        self._species_of_number = torch.full((128,), -1, dtype=torch.int64)
        self._species_of_number[list(elements)] = torch.arange(len(elements))
        self.order = torch.empty(atoms, dtype=torch.int64)  # atom in each slot
        self.slot = torch.empty_like(self.order)  # of each atom
        self.species_of_atom = torch.empty_like(self.order)
        self.species = torch.empty_like(self.order)  # in each slot
        self.outside = torch.zeros_like(self.order)  # 1 in slots of atoms whose energies do not count
        self._run_length = torch.empty_like(self.order)
        self.runs = Runs(Rows(self.species), Rows(self._run_length))

    def load(self, numbers: Tensor, shells: tuple[int, ...] = ()) -> None:
        """Sort atoms with these atomic numbers, which must be known; those of one shell stay together."""
        given = numbers.contiguous()
        arrays = [self.order, self.slot, self.species_of_atom, self.species, self._run_length]
        for first, last in pairwise((0, *shells, len(given))):
            numbers_of = address(given), address(self._species_of_number)
            sort_into_slots(*numbers_of, *map(address, arrays), first, last, CHUNK)
        self.outside[: len(given)] = 0
        if shells:
            self.outside[shells[0] : len(given)] = 1


def parts_of(atoms: int, threads: int) -> list[tuple[int, int]]:
    """Ranges of whole chunks, none of them empty."""
    if threads == 1:
        return [(0, atoms)]
    chunks = math.ceil(atoms / CHUNK)
    shares = np.repeat(PART_SIZES, threads).cumsum() / (threads * sum(PART_SIZES))
    cuts = np.unique([0, *(shares * chunks).round().astype(int)]) * CHUNK
    return [(a, min(b, atoms)) for a, b in pairwise(cuts.tolist())]


@compiled
def sort_into_slots(
    numbers: Ints,
    species_of_number: Ints,
    order: Ints,
    slot: Ints,
    species_of_atom: Ints,
    species: Ints,
    run_length: Ints,
    first: int,
    last: int,
    chunk: int,
) -> None:
    """Sort the atoms of each chunk of atoms first to last - 1 by element, and find the runs of one element."""
    for n in range(first, last):
        species_of_atom[n] = species_of_number[numbers[n]]
        place = n
        while (place - first) % chunk > 0 and species[place - 1] > species_of_atom[n]:
            species[place], order[place] = species[place - 1], order[place - 1]
            place -= 1
        species[place], order[place] = species_of_atom[n], n
    start = first
    for n in range(first, last):
        slot[order[n]] = n
        run_length[n] = 0
        if (n - first) % chunk == 0 or species[n] != species[start]:
            start = n
        run_length[start] += 1
