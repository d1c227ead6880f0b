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

Where only the energies of some atoms count (atomsml/region.py), the last layer is computed for these alone, the one
before also for their neighbours, and so on outwards: layer i of L for the atoms of the shells 0 to L - 1 - i.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
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
    handed_back: list[
        list[Tensor]
    ]  # gradients (atoms, ...) that layer i + 1 leaves to layer i for the atoms themselves

    def __init__(self, shape: NetworkShape, sizes: Sizes, scratch: Tensor) -> None:
        self.shape, self.sizes, self.dtype = shape, sizes, shape.dtype
        self._topology, self.num_atoms = Topology((), (), ()), 0
        self._ranges: list[tuple[int, int]] = []  # of the slots of each shell
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

    def knows(self, graph: NeighborGraph, shells: tuple[int, ...] = ()) -> bool:
        """Whether a graph has the elements, the neighbour list and the shells that were loaded last."""
        return Topology.of(graph, shells).is_same(self._topology)

    def load(self, graph: NeighborGraph, shells: tuple[int, ...] = ()) -> None:
        """Take over a graph of these sizes at most: positions and cell, and what it does not know.

        Args:
            shells: of a `Region`, as many as there are layers; then plans take one thread.
        """
        self.atoms.positions[: graph.num_atoms].copy_(graph.positions.detach())
        self.atoms.cell[: graph.num_systems].copy_(graph.cell.detach())
        if not self.knows(graph, shells):
            self.num_atoms, self._ranges = graph.num_atoms, list(pairwise((0, *shells)))
            self.slots.load(graph.numbers, shells)
            self.atoms.load_list(graph.edge_index, graph.cell_offsets, graph.batch)
            self._topology = Topology.of(graph, shells)
        if shells:  # nothing is summed up over the edges of the outermost atoms, which are none
            self.position_gradient[shells[-1] : graph.num_atoms].zero_()

    def isolated(self) -> Tensor:
        """(elements,) float64: what the network says of isolated atoms of all elements; there must be room for them."""
        elements = torch.tensor(self.shape.elements)
        self.num_atoms, self._topology, self._ranges = len(elements), Topology((), (), ()), []
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
        written = self._written[gradients, len(parts)]
        if self._ranges:
            return [[Part(step.plans[0], *of_shell) for of_shell in self._of_shells(step)] for step in written]
        chunks = [(a, min(a + CHUNK, atoms)) for a in range(0, atoms, CHUNK)]
        ranges = {"chunk": parts if threads == 1 else chunks, "part": parts, "all": [(0, atoms)], "outside": []}
        return [
            [Part(plan, *found) for plan, found in zip(cycle(step.plans), ranges[step.of], strict=False)]
            for step in written
        ]

    def _of_shells(self, step: _Step) -> list[tuple[int, int]]:
        """The slots for which a step is done."""
        reached = self.shape.layers - step.layer  # shells
        if step.of == "all":
            return [(0, self._ranges[reached - 1][1])]
        return self._ranges[reached - 1 : reached] if step.of == "outside" else self._ranges[:reached]

    def _write(self, gradients: bool, parts: int) -> list[_Step]:
        """The calls for atoms that are dealt into so many parts."""
        last = self.shape.layers - 1
        sums = self._sums(parts) if gradients else []
        steps = []
        for i in range(last if gradients else last + 1):
            steps.append(_Step([self._plan()], "chunk", i))
            self._forward(steps[-1].plans[0], i)
            for x in [x for part in sums[i] for x in part] if gradients else []:
                self.zero(steps[-1].plans[0], x)
        if not gradients:
            self.correct(steps[-1].plans[0], gradients)
            return steps
        for i in range(last, -1, -1):
            if i < last:  # atoms that layer i + 1 was not computed for were handed nothing back
                steps.append(_Step([self._plan()], "outside", i))
                for x in self.handed_back[i]:
                    self.zero(steps[-1].plans[0], x)
            # the first layer has no senders
            step = (
                _Step([self._plan() for _ in range(parts)], "part", i) if i > 0 else _Step([self._plan()], "chunk", i)
            )
            steps.append(step)
            for p, plan in enumerate(step.plans):
                if i == last:
                    self._forward(plan, i)
                if i < last:
                    self._add_up(plan, sums[i])
                self.backward(plan, i, sums[i - 1][p] if i > 0 else [])
        totals = self.position_gradient, self.virial
        edges_cpu.pull_back(steps[-1].plans[0], self.edges, *totals, self.shape.lmax, FIRST, LAST)
        corrections = _Step([self._plan()], "chunk", last)
        self.correct(corrections.plans[0], gradients)
        end = Plan(self._blocks[0])
        edges_cpu.add_to_senders(end, self.edges, self.position_gradient, FIRST, LAST)
        return [*steps, *([corrections] if len(corrections.plans[0]) else []), _Step([end], "all", 0)]

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
    """Plans that are carried out for each chunk by itself, one each for a part of the atoms, or for all of them.

    Or for the atoms for which this layer is computed, but not the next one.
    """

    plans: list[Plan]
    of: Literal["chunk", "part", "all", "outside"]
    layer: int


Shapes = Sequence[Sequence[tuple[int, ...]]]


def numbers_in(groups: Shapes) -> int:
    """Of arrays of these shapes."""
    return sum(math.prod(shape) for group in groups for shape in group)


def carve(memory: Tensor, groups: Shapes) -> list[list[Tensor]]:
    """Arrays of these shapes, one after the other in some memory."""
    sizes = [math.prod(shape) for group in groups for shape in group]
    arrays = iter(memory[: sum(sizes)].split(sizes))
    return [[next(arrays).view(shape) for shape in group] for group in groups]
