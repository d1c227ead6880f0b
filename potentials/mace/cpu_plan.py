"""The computation of a MACE on a CPU, as kernel calls with fixed addresses that are carried out again and again.

Atoms are worked on a few at a time (a chunk), so that messages, products and their gradients stay in the caches and in
memory that the next chunk uses again; what must wait for other atoms is kept for all of them:

    forward   layer by layer, chunk by chunk: convolution, linear map, contraction, linear map, readout
    backward  from the last layer to the first the same in reverse; the last layer goes both ways in one go

The backward convolution adds gradients to the features of senders, which chunks have in common. Chunks are therefore
dealt into a few parts, each with a sum of its own, and the sums are added up in a fixed order: equal input gives equal
bits, whatever the threads do.

| symbol | name | shape |
|---|---|---|
| A | messages | (atoms, (lmax + 1)^2, channels), kept of all layers but the last |
| h | features | (atoms, (lmax_out + 1)^2, channels) |
| W h | up | the same after the linear map that precedes the next convolution |

Atoms are counted in slots: as in the graph, but sorted by element within each chunk.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.graph import NeighborGraph
from atomsml.ops.contraction.cpu import contraction_kernel
from atomsml.potentials.mace.cpu_weights import LayerWeights, MACEWeights
from atomsml.potentials.mace.model import MACEConfig
from atomsml.programs import density as density_cpu
from atomsml.programs import edges as edges_cpu
from atomsml.programs.edges import AtomArrays, EdgeArrays
from atomsml.programs.plan import Plan
from atomsml.programs.rows import (
    add_dot_kernel,
    add_element_rows_kernel,
    add_kernel,
    hidden_readout_kernel,
    zero_kernel,
    zero_scalars_kernel,
)

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


class _Scratch:
    """Memory that a thread needs for a chunk, in one block."""

    def __init__(self, weights: MACEWeights, neighbors: int, dtype: torch.dtype) -> None:
        c, layers = weights.channels, weights.layers
        components = layers[0].convolution.table.dim_harmonics
        needed = max(layer.convolution.scratch_size(neighbors) for layer in layers)
        degrees = [layer.convolution.table.by_degree for layer in layers]
        sums = [[(CHUNK, 2 * l + 1, len(paths) * c) for l, paths in of_layer.items()] for of_layer in degrees]
        largest = max(sum(math.prod(shape) for shape in shapes) for shapes in sums)
        after = max((layer.lmax_out + 1) ** 2 for layer in layers)
        hidden = len(weights.last_readout)
        sizes = [
            needed,
            largest,
            2 * CHUNK * components * c,
            CHUNK * after * c,
            CHUNK * c,
            2 * (components + 1) * c,
            CHUNK * hidden,
        ]
        self.block = torch.empty(sum(sizes), dtype=dtype)
        self.convolution, sums_, messages, product, features, atom, hidden_ = self.block.split(sizes)
        self.sums = [
            [
                x.view(shape)
                for x, shape in zip(
                    sums_[: sum(map(math.prod, shapes))].split([*map(math.prod, shapes)]), shapes, strict=True
                )
            ]
            for shapes in sums
        ]
        self.message, self.message_gradient = messages.view(2, CHUNK, components, c)
        self.product = [product[: CHUNK * (layer.lmax_out + 1) ** 2 * c].view(CHUNK, -1, c) for layer in layers]
        self.features = features.view(CHUNK, 1, c)  # of the last layer
        self.atom, self.atom_gradient = atom.view(2, components + 1, c)
        self.hidden = hidden_.view(CHUNK, 1, hidden)


class MACEPlan:
    """The kernel calls, and the arrays of all atoms.

    Args:
        numbers: (atoms,) atomic numbers, in the order of the graphs that will be loaded.
    """

    def __init__(
        self, config: MACEConfig, weights: MACEWeights, numbers: np.ndarray, sizes: Sizes, dtype: torch.dtype
    ) -> None:
        self.weights, self.sizes, self.dtype, self.lmax, atoms = weights, sizes, dtype, config.lmax, len(numbers)
        self._numbers, self._list = numbers.copy(), _List((), ())
        species = np.searchsorted(weights.elements, numbers)
        order = np.lexsort((species, np.arange(atoms) // CHUNK))
        self.slot = torch.from_numpy(np.argsort(order))
        self.in_model = torch.from_numpy(np.searchsorted(config.elements, numbers))
        self.chunks, self.species = _chunks(species[order]), torch.from_numpy(species[order])
        self.parts = _parts(self.chunks, sizes.threads)
        self.atoms = AtomArrays.new(
            torch.from_numpy(order), self.slot, torch.from_numpy(species), sizes.systems, sizes.edges
        )
        self.edges = EdgeArrays.new(atoms, sizes.edges, config.lmax, dtype)
        self.position_gradient = torch.zeros(atoms, 3, dtype=torch.float64)
        self.virial = torch.zeros(atoms, 9, dtype=torch.float64)
        self.energies = torch.empty(atoms, dtype=dtype)
        self._allocate(atoms)
        self._scratch = _Scratch(weights, sizes.neighbors, dtype)
        blocks = [torch.empty_like(self._scratch.block) for _ in range(sizes.threads - 1)]
        self.scratch = [self._scratch.block, *blocks]  # of each thread
        self._steps: dict[bool, list[list[Plan]]] = {}

    def _allocate(self, atoms: int) -> None:
        c, components = self.weights.channels, (self.lmax + 1) ** 2

        def new(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self.dtype)

        inner = self.weights.layers[:-1]
        self.messages = [new(atoms, components, c) for _ in inner]
        self.features = [new(atoms, (layer.lmax_out + 1) ** 2, c) for layer in inner]
        self.up, self.feature_gradient = ([torch.empty_like(x) for x in self.features] for _ in range(2))
        self.up_gradient = [[torch.empty_like(x) for _ in self.parts] for x in self.features]
        self.density_scale = [new(atoms) for _ in self.weights.layers]

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
        for i in range(len(self.weights.layers)):
            plans = [self._plan() for _ in self.chunks]
            for plan, chunk in zip(plans, self.chunks, strict=True):
                self._forward(plan, i, chunk)
            steps.append(plans)
        return steps

    def _with_gradients(self) -> list[list[Plan]]:
        steps, last = self._energies_only()[:-1], len(self.weights.layers) - 1
        for i in range(last, -1, -1):
            parts = self.parts if i > 0 else [[chunk] for chunk in self.chunks]  # the first layer has no senders
            plans = [self._plan() for _ in parts]
            for p, (plan, part) in enumerate(zip(plans, parts, strict=True)):
                if i > 0:
                    self._zero(plan, self.up_gradient[i - 1][p])
                for chunk in part:
                    if i == last:
                        self._forward(plan, i, chunk)
                    self._backward(plan, i, chunk, p)
            steps.append(plans)
        end = self._plan()
        edges_cpu.add_to_senders(end, self.edges, self.position_gradient, 0, len(self.species))
        return [*steps, [end]]

    def _plan(self) -> Plan:
        return Plan(self._scratch.block)

    def _zero(self, plan: Plan, x: Tensor) -> None:
        plan.add(zero_kernel(self.dtype), [x], x.numel())

    def _forward(self, plan: Plan, i: int, chunk: Chunk) -> None:
        """Layer i: adds the energies of its readout; messages and features are kept for what comes after."""
        layer, first, last, n = self.weights.layers[i], chunk.first, chunk.last, chunk.size
        scratch, inner, species = self._scratch, i < len(self.weights.layers) - 1, self.species[first:last]
        energies, message = self.energies[first:last], self._message(i, chunk)
        features = self.features[i][first:last] if inner else scratch.features
        if i == 0:
            plan.add(zero_scalars_kernel(self.dtype), [energies], n)
            elements = len(self.weights.elements)
            edges_cpu.find(plan, self.atoms, self.edges, self.weights.grid, elements, self.lmax, first, last)
        sums, up = (scratch.sums[i], self.up[i - 1]) if i > 0 else ([message], message)
        layer.convolution.forward(plan, self.edges, layer.radial, up, sums, scratch.convolution, first, last)
        if layer.linear is not None:
            layer.linear.forward.add_to(plan, sums, [message], 0, n)
        if layer.density is not None:
            scale = self.density_scale[i]
            density_cpu.normalize(plan, self.edges, layer.density, message[:n], scale, first, last)
        arrays = [scratch.atom, message, layer.coefficients, scratch.product[i]]
        self._contract(plan, "forward", layer, species, arrays)
        layer.out.forward.add_to(plan, [scratch.product[i]], [features], 0, n)
        if layer.skip_constant is not None:
            self._add_element_rows(plan, layer.skip_constant, species, features)
        if layer.skip is not None:
            for a, b, element in chunk.runs:
                layer.skip.forward.add_to(plan, [self.features[i - 1][first:last]], [features], a, b, element)
        if inner:
            assert layer.up is not None
            layer.up.forward.add_to(plan, [features], [self.up[i][first:last]], 0, n)
            kernel = add_dot_kernel(features.shape[1], features.shape[2], self.dtype)
            plan.add(kernel, [features, layer.energy_gradient[0], energies], n)
        else:
            layer.readout.forward.add_to(plan, [features], [scratch.hidden], 0, n)
            kernel = hidden_readout_kernel(scratch.hidden.shape[2], self.dtype)
            plan.add(kernel, [scratch.hidden, self.weights.last_readout, energies], n)

    def _message(self, i: int, chunk: Chunk) -> Tensor:
        inner = i < len(self.weights.layers) - 1
        return self.messages[i][chunk.first : chunk.last] if inner else self._scratch.message

    def _gradient(self, plan: Plan, i: int, chunk: Chunk) -> Tensor:
        """Gradient with respect to the features that layer i makes."""
        layer, own, n = self.weights.layers[i], slice(chunk.first, chunk.last), chunk.size
        if i == len(self.weights.layers) - 1:
            layer.readout.backward.add_to(plan, [self._scratch.hidden], [self._scratch.features], 0, n)
            return self._scratch.features
        assert layer.up is not None
        gradient, total = self.feature_gradient[i][own], self.up_gradient[i][0][own]
        for part in self.up_gradient[i][1:]:
            plan.add(add_kernel(self.dtype), [total, part[own]], total.numel())
        layer.up.backward.add_to(plan, [total], [gradient], 0, n)
        self._add_element_rows(plan, layer.energy_gradient, self.species[own], gradient)
        return gradient

    def _backward(self, plan: Plan, i: int, chunk: Chunk, part: int) -> None:
        """From the gradient with respect to the features of layer i to those of its edges and of what it was given."""
        layer, first, last, n = self.weights.layers[i], chunk.first, chunk.last, chunk.size
        scratch, message, gradient = self._scratch, self._message(i, chunk), self._gradient(plan, i, chunk)
        layer.out.backward.add_to(plan, [gradient], [scratch.product[i]], 0, n)
        arrays = [scratch.atom, scratch.atom_gradient, scratch.product[i], message, layer.coefficients]
        self._contract(plan, "backward", layer, self.species[first:last], [*arrays, scratch.message_gradient])
        if layer.density is not None:
            given = message[:n], self.density_scale[i], scratch.message_gradient[:n]
            density_cpu.pull_back(plan, self.edges, layer.density, *given, first, last)
        sums, up, up_gradient = [scratch.message_gradient], message, message
        if layer.linear is not None:
            sums, up, up_gradient = scratch.sums[i], self.up[i - 1], self.up_gradient[i - 1][part]
            layer.linear.backward.add_to(plan, [scratch.message_gradient], sums, 0, n)
        convolution, memory = layer.convolution, scratch.convolution
        convolution.backward(plan, self.edges, layer.radial, up, sums, up_gradient, memory, first, last)
        if i > 0:
            self._zero(plan, self.feature_gradient[i - 1][first:last])
        if layer.skip is not None:
            for a, b, element in chunk.runs:
                layer.skip.backward.add_to(plan, [gradient], [self.feature_gradient[i - 1][first:last]], a, b, element)
        if i == 0:
            edges_cpu.pull_back(plan, self.edges, self.position_gradient, self.virial, self.lmax, first, last)

    def _add_element_rows(self, plan: Plan, table: Tensor, species: Tensor, features: Tensor) -> None:
        kernel = add_element_rows_kernel(features.shape[1], features.shape[2], self.dtype)
        plan.add(kernel, [species, table, features], len(species))

    def _contract(self, plan: Plan, kind: str, layer: LayerWeights, species: Tensor, arrays: Sequence[Tensor]) -> None:
        table = layer.contraction
        kernel = contraction_kernel(kind, table.num_components, table.num_outputs, self.weights.channels, self.dtype)
        indices = [species, table.run, table.run_start, table.third]
        plan.add(kernel, [*indices, *arrays], len(species), len(table.run), layer.coefficients.shape[1])


def _chunks(species: np.ndarray) -> list[Chunk]:
    """Chunks of atoms whose elements are sorted within each of them."""
    chunks = []
    for first in range(0, len(species), CHUNK):
        mine = species[first : first + CHUNK]
        cuts = [0, *(np.flatnonzero(np.diff(mine)) + 1).tolist(), len(mine)]
        runs = [(a, b, int(mine[a])) for a, b in itertools.pairwise(cuts)]
        chunks.append(Chunk(first, first + len(mine), runs))
    return chunks


def _parts(chunks: list[Chunk], threads: int) -> list[list[Chunk]]:
    """Chunks dealt into parts, none of them empty."""
    if threads == 1:
        return [chunks]
    shares = np.repeat(PART_SIZES, threads).cumsum() / (threads * sum(PART_SIZES))
    cuts = np.unique([0, *(shares * len(chunks)).round().astype(int)])
    return [chunks[a:b] for a, b in itertools.pairwise(cuts.tolist())]
