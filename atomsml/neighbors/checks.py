"""Whether a graph names only atoms that exist, and no two of them lie in one place: asked before kernels read it.

Kernels follow indices without looking. The edges of our own lists are right, those of a graph from outside may not be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Floats, Ints, compiled
from atomsml.geometry import ImpossibleGeometry
from atomsml.neighbors.lists import on_host

if TYPE_CHECKING:
    from atomsml.graph import AtomicGraph, NeighborGraph

CLOSEST = 1e-3  # A; nearer atoms are a mistake in the input, and directions between them are rounding errors
LARGEST_NUMBER = 118

SOUND, NUMBER, BATCH, POSITION, STRAY, UNSORTED, ACROSS, CLOSE = range(8)
KINDS = 8


def check_indices(graph: AtomicGraph, closest: float = 0.0) -> None:
    """Refuse a graph that no kernel could read; edges are looked at where there are some.

    Args:
        closest: A; also refuse edges that are shorter.

    Raises:
        ValueError: wrong types, or numbers or indices that are out of range; names the first.
        ImpossibleGeometry: a position that is not finite, or two atoms closer than `closest`.
    """
    check_types(graph)
    edges, offsets = graph.edge_index, graph.cell_offsets
    if edges is None or offsets is None:
        edges, offsets = torch.empty(2, 0, dtype=torch.int64), torch.empty(0, 3, dtype=torch.int64)
    elif edges.shape != (2, len(offsets)) or offsets.shape != (len(offsets), 3):
        raise ValueError(
            f"edge_index must have shape (2, edges) and cell_offsets (edges, 3), got {tuple(edges.shape)} and "
            f"{tuple(offsets.shape)}"
        )
    geometry = [on_host(x, torch.float64) for x in (graph.positions, graph.cell)]
    indices = [on_host(x, torch.int64) for x in (graph.numbers, graph.batch, edges, offsets)]
    sizes = graph.num_atoms, graph.num_systems, edges.shape[1]
    fault = find_fault(*(address(x) for x in geometry), *(address(x) for x in indices), *sizes, closest**2)
    if fault != SOUND:
        raise _error(graph, fault % KINDS, fault // KINDS)


def check_types(graph: AtomicGraph) -> None:
    """Refuse a graph whose tensors a kernel would read as something else; looks at no number.

    Raises:
        ValueError: names the tensor and its type.
    """
    wanted = {"numbers": graph.numbers, "batch": graph.batch, "edge_index": graph.edge_index}
    for name, x in wanted.items():
        if x is not None and x.dtype != torch.int64:
            raise ValueError(f"AtomicGraph.{name} must have the type int64, got {x.dtype}")
    if graph.pbc.dtype != torch.bool or not graph.positions.is_floating_point():
        raise ValueError(f"AtomicGraph.pbc must be bool and positions floating-point, got {graph.pbc.dtype} and "
                         f"{graph.positions.dtype}")  # fmt: skip


def connect_checked(graph: AtomicGraph, cutoff: float) -> NeighborGraph:
    """The graph with the edges that it has or else gets, and nothing that a kernel could stumble over.

    Edges that a device has found stay there; whether atoms lie in one place then shows in the energy only.

    Raises:
        ValueError: what `check_indices` and `neighbor_list` refuse.
    """
    connected = graph.connected(cutoff)
    check_indices(connected if graph.device.type == "cpu" or graph.edge_index is not None else graph, CLOSEST)
    return connected


def _error(graph: AtomicGraph, kind: int, place: int) -> ValueError:
    """What is wrong with an atom or an edge, in words."""
    if kind == NUMBER:
        return ValueError(f"atom {place} has the atomic number {int(graph.numbers[place])}, which no element has")
    if kind == BATCH:
        systems = graph.num_systems
        return ValueError(f"batch must be ascending and name systems 0 to {systems - 1}; that of atom {place} does not")
    if kind == POSITION:
        return ImpossibleGeometry(f"the position of atom {place} is not finite: {graph.positions[place].tolist()}")
    assert graph.edge_index is not None
    sender, receiver = graph.edge_index[:, place].tolist()
    if kind == STRAY:
        return ValueError(
            f"edge {place} joins atoms {sender} and {receiver}, but the graph has atoms 0 to {graph.num_atoms - 1}; "
            "call with_neighbors again"
        )
    if kind == UNSORTED:
        return ValueError(f"edge_index must be sorted by receiver, its second row; edge {place} is not")
    if kind == ACROSS:
        return ValueError(f"edge {place} joins atoms {sender} and {receiver} of different systems")
    first, second = sorted((sender, receiver))
    whom = f"atoms {first} and {second} are" if first != second else f"atom {first} and an image of itself are"
    return ImpossibleGeometry(f"{whom} less than {CLOSEST:g} A apart; do atoms overlap, is one listed twice?")


@compiled
def find_fault(
    positions: Floats,
    cell: Floats,
    numbers: Ints,
    batch: Ints,
    edge_index: Ints,
    offsets: Ints,
    atoms: int,
    systems: int,
    edges: int,
    closest2: float,
) -> int:
    """The first thing that is wrong: its kind, and KINDS times the atom or edge; SOUND where nothing is."""
    before = 0
    for i in range(atoms):
        if (numbers[i] < 0) | (numbers[i] > LARGEST_NUMBER):
            return NUMBER + KINDS * i
        if (batch[i] < before) | (batch[i] >= systems):
            return BATCH + KINDS * i
        before = batch[i]
        for d in range(3 * i, 3 * i + 3):
            if not abs(positions[d]) < 1e300:
                return POSITION + KINDS * i
    before = 0
    for e in range(edges):
        sender, receiver = edge_index[e], edge_index[edges + e]
        if (sender < 0) | (sender >= atoms) | (receiver < 0) | (receiver >= atoms):
            return STRAY + KINDS * e
        if receiver < before:
            return UNSORTED + KINDS * e
        before = receiver
        if batch[sender] != batch[receiver]:
            return ACROSS + KINDS * e
        square = 0.0
        for d in range(3):
            x = positions[3 * sender + d] - positions[3 * receiver + d]
            for k in range(3):
                x += offsets[3 * e + k] * cell[9 * batch[receiver] + 3 * k + d]
            square += x * x
        if square < closest2:
            return CLOSE + KINDS * e
    return SOUND
