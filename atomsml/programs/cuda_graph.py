"""Energies, forces and stress as a CUDA graph: one launch instead of hundreds, for systems too small to fill a GPU.

A CUDA graph repeats the same work on the same memory. So edges are padded to one of few sizes, the work is captured
once for each size, and a step copies its input to where it was captured, and replays.

Tested for its logic, on a CPU; it has not been run or timed on a GPU.
"""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.potential import Potential, Prediction, evaluate

MOST_ATOMS = 4096  # more fill a GPU, and what is captured takes a matrix of channels for each atom
WARM_UP = 3  # runs before a capture, in which compilers and libraries prepare what they need
IF_OTHER = ("numbers", "pbc", "batch", "edge_index", "cell_offsets")  # copied where it is another object than before


class CUDAGraphPredictor:
    """A Predictor for a potential on a GPU.

    Positions and cell are read at every call, the other tensors of a graph when they are other objects than at the last
    call: they must not be changed in place. Where something cannot be captured it says so once, and evaluates without.

    Raises:
        ValueError: the potential is not on a GPU.
    """

    def __init__(self, potential: Potential) -> None:
        device = next(potential.parameters()).device
        if device.type != "cuda":
            raise ValueError(f"a CUDA graph needs a potential on a GPU, but this one is on {device}; use evaluate()")
        self._potential = potential
        self._steps: dict[tuple[object, ...], _Step] = {}
        self._captures = True

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        graph = graph.connected(self._potential.cutoff)
        captured = 0 < graph.num_atoms <= MOST_ATOMS and self._potential.charge_head is None  # padded, all is periodic
        step = self._step(graph, forces, stress) if captured else None
        return evaluate(self._potential, graph, forces, stress) if step is None else step(graph)

    def _step(self, graph: NeighborGraph, forces: bool, stress: bool) -> _Step | None:
        """What was captured for graphs of this size, perhaps now; None where nothing can be."""
        size = bucket_size(graph.num_edges)
        key = (graph.num_atoms, graph.num_systems, size, graph.dtype, forces, stress)
        if self._captures and key not in self._steps:
            try:
                self._steps[key] = _Step(self._potential, graph, size, forces, stress)
            except RuntimeError as error:
                self._captures = False
                name, reason = type(self._potential).__name__, str(error).partition("\n")[0]
                warnings.warn(f"no CUDA graph of {name}, so that small systems are slower: {reason}", stacklevel=3)
        return self._steps.get(key)


class _Step:
    """One captured step, and the memory that it reads and writes."""

    def __init__(self, potential: Potential, graph: NeighborGraph, size: int, forces: bool, stress: bool) -> None:
        self._input = PaddedGraph(potential, graph, size)
        predict = partial(evaluate, potential, self._input.graph, forces, stress)
        with torch.cuda.device(graph.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    predict()
            torch.cuda.current_stream().wait_stream(stream)
            self._captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._captured):
                self._output = predict()

    def __call__(self, graph: NeighborGraph) -> Prediction:
        self._input.load(graph)
        self._captured.replay()
        out = self._output
        return Prediction(
            energy=out.energy.clone(),
            atom_energies=out.atom_energies.clone(),
            forces=None if out.forces is None else out.forces.clone(),
            stress=None if out.stress is None else unpadded_stress(out.stress, graph),
        )


class PaddedGraph:
    """Memory that holds one graph after the other, all with the same numbers of atoms, systems and padded edges."""

    def __init__(self, potential: Potential, graph: NeighborGraph, size: int) -> None:
        self._potential, self._size, self._last = potential, size, graph
        padded = pad_edges(graph, potential.cutoff, size)
        copies = {name: getattr(padded, name).clone() for name in ("positions", "cell", *IF_OTHER)}
        self.graph = padded.replace(**copies, atom_data={}, system_data={})

    def load(self, graph: NeighborGraph) -> None:
        """Copy a graph to the memory of `self.graph`.

        Raises:
            ValueError: elements that the potential was not made for.
        """
        if graph.numbers is not self._last.numbers:
            self._potential.species(graph.numbers)  # raises; what is captured asks no more
        if any(getattr(graph, name) is not getattr(self._last, name) for name in IF_OTHER):
            padded = pad_edges(graph, self._potential.cutoff, self._size)
            for name in IF_OTHER:
                getattr(self.graph, name).copy_(getattr(padded, name))
        self.graph.positions.copy_(graph.positions)
        self.graph.cell.copy_(padded_cell(graph.cell, self._potential.cutoff))
        self._last = graph


def bucket_size(edges: int) -> int:
    """The size to which so many edges are padded: at most 7 or an eighth more, so that there are eight per octave."""
    step = 1 << max(edges.bit_length() - 4, 3)
    return max(-(-edges // step), 1) * step


def pad_edges(graph: NeighborGraph, cutoff: float, size: int) -> NeighborGraph:
    """The same graph with edges added up to `size`, all beyond the cutoff (A), so that they do not count.

    They lead from atoms to their own images along the first axis, further away than twice the cutoff, which leaves
    cells room to shrink. All atoms get about as many, since a GPU works on the edges of one atom in turn.
    """
    missing = size - graph.num_edges
    cell, pbc = padded_cell(graph.cell, cutoff), graph.pbc.clone()
    pbc[:, 0] = True
    images = (2 * cutoff / torch.linalg.vector_norm(cell[:, 0], dim=1)).ceil()
    atoms = torch.arange(missing, device=graph.device) * graph.num_atoms // max(missing, 1)
    offsets = graph.cell_offsets.new_zeros(missing, 3)
    offsets[:, 0] = images[graph.batch[atoms]].to(offsets.dtype)
    edge_index = torch.cat([graph.edge_index, atoms.expand(2, -1)], dim=1)
    by_receiver = edge_index[1].argsort(stable=True)
    return graph.replace(
        cell=cell,
        pbc=pbc,
        edge_index=edge_index[:, by_receiver],
        cell_offsets=torch.cat([graph.cell_offsets, offsets])[by_receiver],
    )


def padded_cell(cell: Tensor, cutoff: float) -> Tensor:
    """(systems, 3, 3) with some first vector where there was none: edges that count never use it."""
    absent = (cell[:, 0] == 0).all(dim=1)
    first = torch.where(absent[:, None], cell.new_full((3,), cutoff), cell[:, 0])
    return torch.cat([first[:, None], cell[:, 1:]], dim=1)


def unpadded_stress(stress: Tensor, graph: AtomicGraph) -> Tensor:
    """The stress of a padded graph; NaN again where the graph itself has no volume."""
    known = graph.pbc.any(dim=1) & (volume(graph.cell) > 0)
    return torch.where(known[:, None, None], stress, torch.nan)
