"""The computation of a network on a CPU, as kernel calls with fixed addresses that are carried out again and again.

Atoms are worked on a few at a time (a chunk), so that messages, products and their gradients stay in the caches and in
memory that the next chunk uses again; what must wait for other atoms is kept for all of them:

    forward   layer by layer, chunk by chunk
    backward  from the last layer to the first the same in reverse; the last layer goes both ways in one go

An architecture writes down what a layer does with a chunk, `forward` and `backward`, once for all chunks and structures
(programs/plan.py): any structure fits for which the arrays are large enough.

The backward convolution adds gradients to the features of senders, which chunks have in common. Chunks are therefore
dealt into a few parts, each with a sum of its own, and the sums are added up in a fixed order: equal input gives equal
bits, whatever the threads do, and whatever structures came before.

Atoms are counted in slots (programs/slots.py).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

import torch
from torch import Tensor

from atomsml.graph import NeighborGraph
from atomsml.programs import edges as edges_cpu
from atomsml.programs.edges import AtomArrays, EdgeArrays
from atomsml.programs.plan import FIRST, LAST, NUMBER, Array, Part, Plan, Rows, carry_out
from atomsml.programs.rows import add_kernel, zero_kernel
from atomsml.programs.slots import CHUNK, Sizes, Slots, Topology, parts_of
from atomsml.radial.table import SplineGrid


@dataclass(frozen=True)
class NetworkShape:
    """What a plan is told of the network."""

    elements: tuple[int, ...]  # that its weights are for, ascending atomic numbers; species are places among them
    layers: int
    lmax: int  # of the harmonics
    grid: SplineGrid  # of all radial tables
    zeros: Tensor  # (elements,) float64: what the network says of an atom whose energy is zero
    dtype: torch.dtype
    cores: Tensor | None = None  # (elements,) float64, A, of a network whose close pairs fade (`edges.find`)


class ChunkedPlan(ABC):
    """The kernel calls, and the arrays of all atoms that every network has.

    Args:
        sizes: for which there is memory.
        scratch: memory that a thread needs for a chunk.
    """

    gathered: list[list[Tensor]]  # features (atoms, ...) that layer i + 1 gathers, made by layer i

    def __init__(self, shape: NetworkShape, sizes: Sizes, scratch: Tensor) -> None:
        self.shape, self.sizes, self.dtype = shape, sizes, shape.dtype
        self._topology, self.num_atoms = Topology((), ()), 0
        self.slots = Slots(shape.elements, sizes.atoms)
        order, slot, species = self.slots.order, self.slots.slot, self.slots.species_of_atom
        self.atoms = AtomArrays.new(order, slot, species, sizes.systems, sizes.edges)
        self.edges = EdgeArrays.new(sizes.atoms, sizes.edges, shape.lmax, self.dtype)
        self.position_gradient = torch.empty(sizes.atoms, 3, dtype=torch.float64)
        self.virial = torch.empty(sizes.atoms, 9, dtype=torch.float64)
        self.energies = torch.empty(sizes.atoms, dtype=self.dtype)
        self.corrections = torch.zeros(sizes.atoms, dtype=torch.float64)  # to the energies
        self._blocks = [scratch]  # of each thread
        self._up_gradient: list[list[list[Tensor]]] = []  # of what layer i + 1 gathers: for each part, each array
        self._written: dict[tuple[bool, int], list[_Step]] = {}

    @abstractmethod
    def forward(self, plan: Plan, i: int) -> None:
        """Layer i: the last one leaves the energies of the chunk."""

    @abstractmethod
    def backward(self, plan: Plan, i: int, up_gradient: list[Tensor]) -> None:
        """From the gradient of what layer i makes to that of its edges; up_gradient gets that of what it gathers."""

    def correct(self, plan: Plan, gradients: bool) -> None:  # noqa: B027  (most networks have nothing to add)
        """Fill `corrections`, energies beside the network's, and add to what `edges.pull_back` has written."""

    def knows(self, graph: NeighborGraph) -> bool:
        """Whether a graph has the elements and the neighbour list that were loaded last."""
        return Topology.of(graph).is_same(self._topology)

    def load(self, graph: NeighborGraph) -> None:
        """Take over a graph of these sizes at most: positions and cell, and what it does not know."""
        self.atoms.positions[: graph.num_atoms].copy_(graph.positions.detach())
        self.atoms.cell[: graph.num_systems].copy_(graph.cell.detach())
        if not self.knows(graph):
            self.num_atoms = graph.num_atoms
            self.slots.load(graph.numbers)
            self.atoms.load_list(graph.edge_index, graph.cell_offsets, graph.batch)
            self._topology = Topology.of(graph)

    def isolated(self) -> Tensor:
        """(elements,) float64: what the network says of isolated atoms of all elements; there must be room for them."""
        elements = torch.tensor(self.shape.elements)
        self.num_atoms, self._topology = len(elements), Topology((), ())
        self.slots.load(elements)
        self.atoms.row_start.zero_()
        carry_out(self.steps(gradients=False, threads=1), self.scratch(1))
        return self.energies[self.slots.slot[: len(elements)]].double()

    def scratch(self, threads: int) -> list[Tensor]:
        """Memory for each of the threads."""
        while len(self._blocks) < threads:
            self._blocks.append(torch.empty_like(self._blocks[0]))
        return self._blocks[:threads]

    def steps(self, gradients: bool, threads: int) -> list[list[Part]]:
        """Steps to be carried out one after the other; the parts of one step may run at the same time."""
        atoms = self.num_atoms
        parts = parts_of(atoms, threads)
        if (gradients, len(parts)) not in self._written:
            self._written[gradients, len(parts)] = self._write(gradients, len(parts))
        chunks = [(a, min(a + CHUNK, atoms)) for a in range(0, atoms, CHUNK)]
        ranges = {"chunk": parts if threads == 1 else chunks, "part": parts, "all": [(0, atoms)]}
        return [
            [Part(plan, *found) for plan, found in zip(cycle(step.plans), ranges[step.of], strict=False)]
            for step in self._written[gradients, len(parts)]
        ]

    def _write(self, gradients: bool, parts: int) -> list[_Step]:
        """The calls for atoms that are dealt into so many parts."""
        last = self.shape.layers - 1
        sums = self._sums(parts) if gradients else []
        steps = []
        for i in range(last if gradients else last + 1):
            steps.append(_Step([self._plan()], "chunk"))
            self._forward(steps[-1].plans[0], i)
            for x in [x for part in sums[i] for x in part] if gradients else []:
                self.zero(steps[-1].plans[0], x)
        if not gradients:
            self.correct(steps[-1].plans[0], gradients)
            return steps
        for i in range(last, -1, -1):
            # the first layer has no senders
            step = _Step([self._plan() for _ in range(parts)], "part") if i > 0 else _Step([self._plan()], "chunk")
            steps.append(step)
            for p, plan in enumerate(step.plans):
                if i == last:
                    self._forward(plan, i)
                if i < last:
                    self._add_up(plan, sums[i])
                self.backward(plan, i, sums[i - 1][p] if i > 0 else [])
        totals = self.position_gradient, self.virial
        edges_cpu.pull_back(steps[-1].plans[0], self.edges, *totals, self.shape.lmax, FIRST, LAST)
        self.correct(steps[-1].plans[0], gradients)
        end = Plan(self._blocks[0])
        edges_cpu.add_to_senders(end, self.edges, self.position_gradient, FIRST, LAST)
        return [*steps, _Step([end], "all")]

    def _plan(self) -> Plan:
        return Plan(self._blocks[0], CHUNK)

    def _sums(self, parts: int) -> list[list[list[Tensor]]]:
        """Of gradients with respect to what is gathered, those of so many parts."""
        if not self._up_gradient:
            self._up_gradient = [[] for _ in self.gathered]
        for arrays, found in zip(self.gathered, self._up_gradient, strict=True):
            found += [[torch.empty_like(x) for x in arrays] for _ in range(parts - len(found))]
        return [found[:parts] for found in self._up_gradient]

    def _forward(self, plan: Plan, i: int) -> None:
        if i == 0:
            shape, species = self.shape, len(self.shape.elements)
            edges_cpu.find(plan, self.atoms, self.edges, shape.grid, species, shape.lmax, FIRST, LAST, shape.cores)
        self.forward(plan, i)

    def _add_up(self, plan: Plan, parts: list[list[Tensor]]) -> None:
        """Sums of gradients of the atoms of a chunk: the first part is given those of the others."""
        totals, *others = parts
        for part in others:
            for total, x in zip(totals, part, strict=True):
                plan.add(add_kernel(self.dtype), [Rows(total), Rows(x)], NUMBER * Rows(total).row)

    def up_gradient(self, i: int) -> list[Array]:
        """Of a chunk, with respect to what layer i has made for the next one to gather: the sum of all parts."""
        return [Rows(x) for x in self._up_gradient[i][0]]

    def zero(self, plan: Plan, x: Tensor) -> None:
        """The rows of a chunk."""
        plan.add(zero_kernel(self.dtype), [Rows(x)], NUMBER * Rows(x).row)


@dataclass(frozen=True)
class _Step:
    """Plans that are carried out for each chunk by itself, one each for a part of the atoms, or for all of them."""

    plans: list[Plan]
    of: Literal["chunk", "part", "all"]


Shapes = Sequence[Sequence[tuple[int, ...]]]


def numbers_in(groups: Shapes) -> int:
    """Of arrays of these shapes."""
    return sum(math.prod(shape) for group in groups for shape in group)


def carve(memory: Tensor, groups: Shapes) -> list[list[Tensor]]:
    """Arrays of these shapes, one after the other in some memory."""
    sizes = [math.prod(shape) for group in groups for shape in group]
    arrays = iter(memory[: sum(sizes)].split(sizes))
    return [[next(arrays).view(shape) for shape in group] for group in groups]
