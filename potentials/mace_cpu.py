"""MACE on a CPU without autograd: energies, and forces and stress by the same kernels backwards.

Atoms are worked on a few at a time (a chunk), so that messages, products and their gradients stay in the caches and in
the memory of a thread; what must wait for other atoms is kept for all of them:

    forward   layer by layer, chunk by chunk: convolution, linear map, contraction, linear map, readout
    backward  from the last layer to the first: the same in reverse; the last layer goes both ways in one go

The backward convolution adds gradients to the features of senders, which any chunk may share. Chunks are therefore
dealt into a few parts, each with a sum of its own, and the sums are added up in a fixed order: equal input gives equal
bits, whatever the threads do. Radial functions are tables (mace_cpu_tables.py), weights are packed (mace_cpu_weights.py).

| symbol | name | shape |
|---|---|---|
| A | messages | (atoms, (lmax + 1)^2, channels), kept of all layers but the last |
| h | features | (atoms, (lmax_out + 1)^2, channels) |
| W h | up | the same after the linear map to the next convolution |
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from atomsml.graph import AtomicGraph
from atomsml.ops import edges_cpu
from atomsml.ops.activation import SILU_GAIN
from atomsml.ops.contraction_cpu import contraction_kernel
from atomsml.ops.edges_cpu import AtomArrays, EdgeArrays
from atomsml.ops.threads import Task, share_out
from atomsml.ops.vector_code import lanes
from atomsml.potential import Prediction, check_elements, stress_of, sum_by_system
from atomsml.potentials.mace import MACE
from atomsml.potentials.mace_cpu_weights import LayerWeights, MACEWeights, prepare

CHUNK = 16  # atoms: their messages fill the second-level cache
PARTS_PER_THREAD = 2  # a thread that is slowed down can leave some to the others
WORTH_A_THREAD = 24  # atoms for each thread


class MACEOnCPU:
    """A Predictor. It computes in the type that the model has when it is made, with the weights of that moment."""

    def __init__(self, model: MACE) -> None:
        self._model = copy.deepcopy(model).double().requires_grad_(False)
        self._dtype = model.dtype
        self._weights: MACEWeights | None = None

    def weights(self, numbers: Tensor) -> MACEWeights:
        """What these atoms need; prepared anew only when there are other elements than before."""
        present = tuple(numbers.unique().tolist())
        if self._weights is None or not set(present) <= set(self._weights.elements):
            check_elements(list(present), self._model.elements)
            self._weights = prepare(self._model, present, self._dtype)
        return self._weights

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        if graph.edge_index is None:
            graph = graph.with_neighbors(self._model.cutoff)
        weights, config = self.weights(graph.numbers), self._model.config
        run = _Run(weights, graph, config.cutoff, config.lmax, self._dtype)
        run.compute(forces or stress)
        references = self._model.references[run.species]
        atom_energies = (config.scale * run.energies.double() + config.shift + references)[run.slot].to(graph.dtype)
        return Prediction(
            energy=sum_by_system(atom_energies, graph),
            atom_energies=atom_energies,
            forces=(-config.scale * run.position_gradient[run.slot]).to(graph.dtype) if forces else None,
            stress=self._stress(run, graph) if stress else None,
        )

    def _stress(self, run: _Run, graph: AtomicGraph) -> Tensor:
        virial = self._model.config.scale * run.virial[run.slot].view(-1, 3, 3)
        total = virial.new_zeros(graph.num_systems, 3, 3).index_add(0, graph.batch, 0.5 * (virial + virial.mT))
        return stress_of(total.to(graph.dtype), graph)


@dataclass(frozen=True)
class _Chunk:
    """Slots first .. last - 1; `runs` are those of one element: (first, last, element), counted from the first slot."""

    first: int
    last: int
    runs: list[tuple[int, int, int]]


class _Scratch:
    """Memory of one thread, for one chunk at a time."""

    def __init__(self, weights: MACEWeights, most_neighbors: int, dtype: torch.dtype) -> None:
        c, layers = weights.channels, weights.layers

        def new(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=dtype)

        components = layers[0].convolution.table.dim_harmonics
        self.convolution = [layer.convolution.scratch(most_neighbors) for layer in layers]
        self.sums = [
            [new(CHUNK, 2 * l + 1, len(paths) * c) for l, paths in layer.convolution.table.by_degree.items()]
            for layer in layers
        ]
        self.message, self.message_gradient = new(CHUNK, components, c), new(CHUNK, components, c)
        self.product = [new(CHUNK, (layer.lmax_out + 1) ** 2, c) for layer in layers]
        self.features = new(CHUNK, 1, c)  # of the last layer
        self.atom, self.atom_gradient = new(components + 1, c), new(components + 1, c)
        self.energy = new(CHUNK, 1, lanes(dtype))
        self.hidden = new(CHUNK, 1, len(weights.last_readout))


class _Run:
    """One prediction: arrays of all atoms, in slots, and the steps on a chunk of them."""

    def __init__(self, weights: MACEWeights, graph: AtomicGraph, cutoff: float, lmax: int, dtype: torch.dtype) -> None:
        assert graph.edge_index is not None
        assert graph.cell_offsets is not None
        self.weights, self.lmax, atoms, edges = weights, lmax, graph.num_atoms, graph.num_edges
        threads = max(1, min(torch.get_num_threads(), atoms // WORTH_A_THREAD))
        species = np.searchsorted(weights.elements, graph.numbers.numpy())
        order = np.lexsort((species, np.arange(atoms) // CHUNK))
        self.order = torch.from_numpy(order)
        self.slot = torch.empty_like(self.order)
        self.slot[self.order] = torch.arange(atoms)
        self.species = torch.from_numpy(species[order])
        self.chunks = _chunks(species[order])
        self.parts = np.array_split(np.arange(len(self.chunks)), 1 if threads == 1 else PARTS_PER_THREAD * threads)
        counts = np.bincount(graph.edge_index[1].numpy(), minlength=atoms)
        self.row_start = np.concatenate([[0], counts.cumsum()])
        self.atoms = AtomArrays(
            order=self.order,
            slot=self.slot,
            species=torch.from_numpy(species),
            positions=graph.positions.detach().double().contiguous(),
            cell=graph.cell.detach().double().contiguous(),
            batch=graph.batch,
            row_start=torch.from_numpy(self.row_start),
            sender=graph.edge_index[0].contiguous(),
            offset=graph.cell_offsets.contiguous(),
        )
        self.edges = EdgeArrays.new(atoms, edges, lmax, dtype)
        self.scale = torch.tensor([cutoff, weights.pieces], dtype=torch.float64)
        self.scratch = [_Scratch(weights, int(counts.max(initial=0)), dtype) for _ in range(threads)]
        c, components = weights.channels, (lmax + 1) ** 2
        self.energies = torch.zeros(atoms, dtype=dtype)
        self.position_gradient = torch.zeros(atoms, 3, dtype=torch.float64)
        self.virial = torch.zeros(atoms, 9, dtype=torch.float64)
        inner = weights.layers[:-1]
        self.messages = [torch.empty(atoms, components, c, dtype=dtype) for _ in inner]
        shapes = [(atoms, (layer.lmax_out + 1) ** 2, c) for layer in inner]
        self.features = [torch.empty(shape, dtype=dtype) for shape in shapes]
        self.up = [torch.empty(shape, dtype=dtype) for shape in shapes]
        self.feature_gradient = [torch.zeros(shape, dtype=dtype) for shape in shapes]
        self.up_gradient = [torch.zeros(len(self.parts), *shape, dtype=dtype) for shape in shapes]

    def compute(self, gradients: bool) -> None:
        last = len(self.weights.layers) - 1
        others = len(self.scratch) - 1
        with ThreadPoolExecutor(others) if others else nullcontext() as threads:

            def for_each(tasks: Iterable[Task], step: Callable[[_Scratch, Task], None]) -> None:
                share_out(step, tasks, self.scratch, threads)

            for i in range(last):
                for_each(self.chunks, partial(self._forward, i))
            if not gradients:
                for_each(self.chunks, partial(self._forward, last))
                return
            for i in range(last, -1, -1):
                for_each(range(len(self.parts)), partial(self._backward_part, i))
        edges_cpu.add_to_senders(self.edges, self.position_gradient, 0, len(self.order))

    def _forward(self, i: int, scratch: _Scratch, chunk: _Chunk) -> None:
        """Layer i: energies of its readout; messages and features are kept for what comes after."""
        layer, first, last, n = self.weights.layers[i], chunk.first, chunk.last, chunk.last - chunk.first
        inner = i < len(self.weights.layers) - 1
        message = self.messages[i][first:last] if inner else scratch.message
        features = self.features[i][first:last] if inner else scratch.features
        species = self.species[first:last]
        if i == 0:
            edges_cpu.find(self.atoms, self.edges, self.scale, len(self.weights.elements), self.lmax, first, last)
        sums, up = (scratch.sums[i], self.up[i - 1]) if i > 0 else ([message], message)
        layer.convolution.forward(self.edges, layer.radial, up, sums, scratch.convolution[i], first, last)
        if layer.linear is not None:
            layer.linear.forward(sums, [message], 0, n)
        product = scratch.product[i]
        product.numpy()[:n].fill(0)
        self._contract("forward", layer, species, [scratch.atom, message, layer.coefficients, product])
        layer.out.forward([product], [features], 0, n)
        if layer.skip_constant is not None:
            features[:n, 0] += layer.skip_constant[species]
        if layer.skip is not None:
            for a, b, element in chunk.runs:
                layer.skip.forward([self.features[i - 1][first:last]], [features], a, b, element)
        if inner:
            assert layer.up is not None
            layer.up.forward([features], [self.up[i][first:last]], 0, n)
            layer.readout.forward([features], [scratch.energy], 0, n)
            self.energies[first:last] += scratch.energy[:n, 0, 0]
        else:
            layer.readout.forward([features], [scratch.hidden], 0, n)
            x = scratch.hidden.numpy()[:n, 0]
            self.energies[first:last] += torch.from_numpy((silu(x) * self.weights.last_readout.numpy()).sum(axis=1))

    def _backward_part(self, i: int, scratch: _Scratch, part: int) -> None:
        last = len(self.weights.layers) - 1
        for c in self.parts[part]:
            chunk = self.chunks[c]
            if i == last:
                self._forward(i, scratch, chunk)
                gradient = self._last_gradient(scratch, chunk)
            else:
                gradient = self._gradient(i, chunk)
            self._backward(i, scratch, chunk, part, gradient)

    def _last_gradient(self, scratch: _Scratch, chunk: _Chunk) -> Tensor:
        """Gradient with respect to the last features."""
        n, hidden = chunk.last - chunk.first, scratch.hidden.numpy()
        hidden[:n, 0] = silu_slope(hidden[:n, 0]) * self.weights.last_readout.numpy()
        self.weights.layers[-1].readout.backward([scratch.hidden], [scratch.features], 0, n)
        return scratch.features

    def _gradient(self, i: int, chunk: _Chunk) -> Tensor:
        """Gradient with respect to the features that layer i makes."""
        layer, own = self.weights.layers[i], slice(chunk.first, chunk.last)
        assert layer.up is not None
        parts, gradient = self.up_gradient[i].numpy(), self.feature_gradient[i][own]
        for part in parts[1:]:
            parts[0, own] += part[own]
        layer.up.backward([self.up_gradient[i][0, own]], [gradient], 0, len(gradient))
        gradient.numpy()[:, 0] += layer.energy_gradient.numpy()
        return gradient

    def _backward(self, i: int, scratch: _Scratch, chunk: _Chunk, part: int, gradient: Tensor) -> None:
        """From the gradient with respect to the features of layer i to those of its edges and of what it was given."""
        layer, first, last, n = self.weights.layers[i], chunk.first, chunk.last, chunk.last - chunk.first
        message = self.messages[i][first:last] if i < len(self.weights.layers) - 1 else scratch.message
        edges = slice(self.row_start[first], self.row_start[last])
        if i == len(self.weights.layers) - 1:
            self.edges.gradient.numpy()[edges].fill(0)
        layer.out.backward([gradient], [scratch.product[i]], 0, n)
        arrays = [scratch.atom, scratch.atom_gradient, scratch.product[i], message, layer.coefficients]
        self._contract("backward", layer, self.species[first:last], [*arrays, scratch.message_gradient])
        sums, up, up_gradient = [scratch.message_gradient], message, message
        if layer.linear is not None:
            sums, up, up_gradient = scratch.sums[i], self.up[i - 1], self.up_gradient[i - 1][part]
            layer.linear.backward([scratch.message_gradient], sums, 0, n)
        scratch_, radial = scratch.convolution[i], layer.radial
        layer.convolution.backward(self.edges, radial, up, sums, up_gradient, scratch_, first, last)
        if layer.skip is not None:
            for a, b, element in chunk.runs:
                layer.skip.backward([gradient], [self.feature_gradient[i - 1][first:last]], a, b, element)
        if i == 0:
            edges_cpu.pull_back(self.edges, self.position_gradient, self.virial, self.lmax, first, last)

    def _contract(self, kind: str, layer: LayerWeights, species: Tensor, arrays: list[Tensor]) -> None:
        table = layer.contraction
        sizes = table.num_components, table.num_outputs, self.weights.channels
        kernel = contraction_kernel(kind, *sizes, arrays[0].dtype)
        indices = [species, table.run, table.run_start, table.third]
        kernel([*indices, *arrays], len(species), len(table.run), layer.coefficients.shape[1])


def _chunks(species: np.ndarray) -> list[_Chunk]:
    """Chunks of atoms whose elements are sorted within each of them."""
    chunks = []
    for first in range(0, len(species), CHUNK):
        mine = species[first : first + CHUNK]
        cuts = [0, *(np.flatnonzero(np.diff(mine)) + 1).tolist(), len(mine)]
        runs = [(a, b, int(mine[a])) for a, b in itertools.pairwise(cuts)]
        chunks.append(_Chunk(first, first + len(mine), runs))
    return chunks


def silu(x: np.ndarray) -> np.ndarray:
    return SILU_GAIN * x / (1 + np.exp(-x))


def silu_slope(x: np.ndarray) -> np.ndarray:
    s = 1 / (1 + np.exp(-x))
    return SILU_GAIN * s * (1 + x * (1 - s))
