"""The computation of a network on a CPU, as kernel calls with fixed addresses that are carried out again and again.

Atoms are worked on a few at a time (a chunk), so that messages, products and their gradients stay in the caches and in
memory that the next chunk uses again; what must wait for other atoms is kept for all of them:

    forward   layer by layer, chunk by chunk
    backward  from the last layer to the first the same in reverse; the last layer goes both ways in one go

An architecture writes down what a layer does with a chunk, `forward` and `backward`.

The backward convolution adds gradients to the features of senders, which chunks have in common. Chunks are therefore
dealt into a few parts, each with a sum of its own, and the sums are added up in a fixed order: equal input gives equal
bits, whatever the threads do.

Atoms are counted in slots: as in the graph, but sorted by element within each chunk.
"""

from __future__ import annotations

import itertools
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.graph import NeighborGraph
from atomsml.programs import edges as edges_cpu
from atomsml.programs.edges import AtomArrays, EdgeArrays
from atomsml.programs.plan import Plan
from atomsml.programs.rows import add_kernel, zero_kernel
from atomsml.radial.table import SplineGrid

CHUNK = 16  # atoms: their messages fill the second-level cache
PART_SIZES = (3, 2, 1)  # of each thread, relative: large ones first, so that threads end at almost the same time


@dataclass(frozen=True)
class Sizes:
    """What there is memory for."""

    systems: int
    edges: int
    neighbors: int  # of one atom
    threads: int


@dataclass(frozen=True)
class NetworkShape:
    """What a plan is told of the network."""

    elements: tuple[int, ...]  # that its weights are for, ascending atomic numbers
    all_elements: tuple[int, ...]  # of the model
    layers: int
    lmax: int  # of the harmonics
    grid: SplineGrid  # of all radial tables
    zeros: Tensor  # (elements,) float64: what the network says of an atom whose energy is zero
    dtype: torch.dtype


@dataclass(frozen=True)
class _List:
    """Which neighbour list was loaded: its tensors, and how often each had been changed in place, if torch knows."""

    tensors: tuple[Tensor, ...]
    versions: tuple[int | None, ...]

    @staticmethod
    def of(graph: NeighborGraph) -> _List:
        tensors = (graph.edge_index, graph.cell_offsets, graph.batch)
        return _List(tensors, tuple(None if x.is_inference() else x._version for x in tensors))

    def is_same(self, other: _List) -> bool:
        known = None not in self.versions and self.versions == other.versions
        return known and all(map(operator.is_, self.tensors, other.tensors))


@dataclass(frozen=True)
class Chunk:
    """Slots first .. last - 1; `runs` are those of one element: (first, last, element), counted from the first slot."""

    first: int
    last: int
    runs: list[tuple[int, int, int]]

    @property
    def size(self) -> int:
        return self.last - self.first

    @property
    def own(self) -> slice:
        return slice(self.first, self.last)


class ChunkedPlan(ABC):
    """The kernel calls, and the arrays of all atoms that every network has.

    Args:
        numbers: (atoms,) atomic numbers, in the order of the graphs that will be loaded.
        scratch: memory that a thread needs for a chunk.
    """

    up_gradient: list[list[list[Tensor]]]  # of the features that layer i + 1 gathers: for each part, each array

    def __init__(self, shape: NetworkShape, numbers: np.ndarray, sizes: Sizes, scratch: Tensor) -> None:
        self.shape, self.sizes, self.dtype = shape, sizes, shape.dtype
        self._numbers, self._list = numbers.copy(), _List((), ())
        atoms, species = len(numbers), np.searchsorted(shape.elements, numbers)
        order = np.lexsort((species, np.arange(atoms) // CHUNK))
        self.slot = torch.from_numpy(np.argsort(order))
        self.in_model = torch.from_numpy(np.searchsorted(shape.all_elements, numbers))
        self.chunks, self.species = _chunks(species[order]), torch.from_numpy(species[order])
        self.parts = _parts(self.chunks, sizes.threads)
        self.atoms = AtomArrays.new(
            torch.from_numpy(order), self.slot, torch.from_numpy(species), sizes.systems, sizes.edges
        )
        self.edges = EdgeArrays.new(atoms, sizes.edges, shape.lmax, self.dtype)
        self.position_gradient = torch.zeros(atoms, 3, dtype=torch.float64)
        self.virial = torch.zeros(atoms, 9, dtype=torch.float64)
        self.energies = torch.empty(atoms, dtype=self.dtype)
        self._block = scratch
        self.scratch = [scratch, *(torch.empty_like(scratch) for _ in range(sizes.threads - 1))]  # of each thread
        self._steps: dict[bool, list[list[Plan]]] = {}

    @abstractmethod
    def forward(self, plan: Plan, i: int, chunk: Chunk) -> None:
        """Layer i: the last one leaves the energies of the chunk."""

    @abstractmethod
    def backward(self, plan: Plan, i: int, chunk: Chunk, part: int) -> None:
        """From the gradient of what layer i makes to that of its edges and, summed in a part, of what it gathers."""

    def fits(self, graph: NeighborGraph, threads: int) -> bool:
        """Whether a graph is of the same atoms, with no more edges than there is room for."""
        return (
            threads == self.sizes.threads
            and graph.num_systems == self.sizes.systems
            and graph.num_edges <= self.sizes.edges
            and np.array_equal(graph.numbers.numpy(), self._numbers)
            and np.bincount(graph.edge_index[1].numpy(), minlength=1).max() <= self.sizes.neighbors
        )

    def load(self, graph: NeighborGraph) -> None:
        """Take over positions and cell, and the neighbour list if it is a new one."""
        self.atoms.positions.copy_(graph.positions.detach())
        self.atoms.cell.copy_(graph.cell.detach())
        new = _List.of(graph)
        if not new.is_same(self._list):
            edge_index, cell_offsets, batch = new.tensors
            self.atoms.load_list(edge_index, cell_offsets, batch)
            self._list = new

    def steps(self, gradients: bool) -> list[list[Plan]]:
        """Steps to be carried out one after the other; the plans of one step may run at the same time."""
        if gradients not in self._steps:
            self._steps[gradients] = self._with_gradients() if gradients else self._energies_only()
        return self._steps[gradients]

    def _energies_only(self) -> list[list[Plan]]:
        steps: list[list[Plan]] = []
        for i in range(self.shape.layers):
            plans = [Plan(self._block) for _ in self.chunks]
            for plan, chunk in zip(plans, self.chunks, strict=True):
                self._forward(plan, i, chunk)
            steps.append(plans)
        return steps

    def _with_gradients(self) -> list[list[Plan]]:
        steps, last = self._energies_only()[:-1], self.shape.layers - 1
        for i in range(last, -1, -1):
            parts = self.parts if i > 0 else [[chunk] for chunk in self.chunks]  # the first layer has no senders
            plans = [Plan(self._block) for _ in parts]
            for p, (plan, part) in enumerate(zip(plans, parts, strict=True)):
                for gradient in self.up_gradient[i - 1][p] if i > 0 else []:
                    self.zero(plan, gradient)
                for chunk in part:
                    if i == last:
                        self._forward(plan, i, chunk)
                    self._backward(plan, i, chunk, p)
            steps.append(plans)
        end = Plan(self._block)
        edges_cpu.add_to_senders(end, self.edges, self.position_gradient, 0, len(self.species))
        return [*steps, [end]]

    def _forward(self, plan: Plan, i: int, chunk: Chunk) -> None:
        if i == 0:
            shape, elements = self.shape, len(self.shape.elements)
            edges_cpu.find(plan, self.atoms, self.edges, shape.grid, elements, shape.lmax, chunk.first, chunk.last)
        self.forward(plan, i, chunk)

    def _backward(self, plan: Plan, i: int, chunk: Chunk, part: int) -> None:
        self.backward(plan, i, chunk, part)
        if i == 0:
            totals = self.position_gradient, self.virial
            edges_cpu.pull_back(plan, self.edges, *totals, self.shape.lmax, chunk.first, chunk.last)

    def zero(self, plan: Plan, x: Tensor) -> None:
        plan.add(zero_kernel(self.dtype), [x], x.numel())

    def summed_up_gradient(self, plan: Plan, i: int, chunk: Chunk) -> list[Tensor]:
        """The gradient of the features that layer i gathers, of the atoms of a chunk: the sums of all parts."""
        totals, *others = self.up_gradient[i - 1]
        mine = [total[chunk.own] for total in totals]
        for part in others:
            for total, x in zip(mine, part, strict=True):
                plan.add(add_kernel(self.dtype), [total, x[chunk.own]], total.numel())
        return mine


def _chunks(species: np.ndarray) -> list[Chunk]:
    """Chunks of atoms whose elements are sorted within each of them."""
    chunks = []
    for first in range(0, len(species), CHUNK):
        mine = species[first : first + CHUNK]
        cuts = [0, *(np.flatnonzero(np.diff(mine)) + 1).tolist(), len(mine)]
        runs = [(a, b, int(mine[a])) for a, b in itertools.pairwise(cuts)]
        chunks.append(Chunk(first, first + len(mine), runs))
    return chunks


def _parts(chunks: Sequence[Chunk], threads: int) -> list[list[Chunk]]:
    """Chunks dealt into parts, none of them empty."""
    if threads == 1:
        return [list(chunks)]
    shares = np.repeat(PART_SIZES, threads).cumsum() / (threads * sum(PART_SIZES))
    cuts = np.unique([0, *(shares * len(chunks)).round().astype(int)])
    return [list(chunks[a:b]) for a, b in itertools.pairwise(cuts.tolist())]
