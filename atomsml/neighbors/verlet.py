"""VerletList: a neighbour list with a skin, which serves for many steps of molecular dynamics or relaxation.

Verlet, Phys. Rev. 159, 98 (1967): pairs are listed up to cutoff + skin, and the list is kept until atoms may have come
closer than the cutoff unseen.
"""

from __future__ import annotations

from functools import cached_property
from math import inf, sqrt
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Bools, Floats, Ints, compiled
from atomsml.geometry import periodic_lattice, to_cartesian
from atomsml.neighbors.lattice import complete_lattice, invert
from atomsml.neighbors.lists import neighbor_list, on_host, searches

if TYPE_CHECKING:
    from atomsml.graph import AtomicGraph

ROUNDING = 1e-6  # part of its reach on which a list does not rely: more than rounding takes


class VerletList:
    """A neighbour list with a skin, made anew when atoms may have come closer than the cutoff unseen.

    When it was made, at positions X and lattices L (rows are vectors; completed along open axes), it held each pair
    whose vector V = X_j + o L - X_i was shorter than R = cutoff + skin. Let l be the lattice now, F = L^-1 l its
    deformation, and d_i = x_i - X_i F what an atom moved beyond that. The vector of the pair has become

        v = x_j + o l - x_i = V F + d_j - d_i,    so    |v| >= s |V| - |d_i| - |d_j|

    where s is the least by which F stretches any vector. A pair that is not in the list has |V| >= R. Therefore it is
    not closer than the cutoff while the two largest |d| of its system together are less than s R - cutoff, which in an
    unchanged cell is the skin. Else the list is made anew, and so it is for other atoms, systems or periodic axes, or
    if the caller wrapped the atoms, which looks like a long way. The lists of all systems are made at once: that takes
    less time than to join those that still hold with new ones.

    s^2 is the lowest eigenvalue of M = F F^T, at least the lowest M_kk - sum of |M_kl| over l != k (Gershgorin).

    Args:
        cutoff: A.
        skin: A; with 0 the list is made anew every time. A thick skin lasts for more steps, a thin one lists fewer
            edges in vain; `benchmarks/speed/verlet_skin.py` weighs the two in several kinds of dynamics.
    """

    def __init__(self, cutoff: float, skin: float = 0.8) -> None:
        if not 0 <= skin < inf:
            raise ValueError(f"the skin must be finite and not negative, got {skin} A")
        self.cutoff, self.skin, self.rebuilds = cutoff, skin, 0
        self._edges: tuple[Tensor, Tensor] | None = None
        self._made: Snapshot | None = None

    def update(self, graph: AtomicGraph) -> AtomicGraph:
        """The graph with edges that hold all pairs closer than the cutoff, and perhaps some up to cutoff + skin.

        Raises:
            ValueError: what `neighbor_list` refuses.
        """
        if self._made is None or self._edges is None or not self._made.still_holds(graph):
            reach = self.cutoff + self.skin
            self._edges = neighbor_list(graph.positions, graph.cell, graph.pbc, reach, graph.batch)
            self._made = Snapshot(graph, self.cutoff, reach * (1 - ROUNDING))
            self.rebuilds += 1
        return graph.with_edges(*self._edges)

    def kept(self, graph: AtomicGraph) -> tuple[AtomicGraph, Answer] | None:
        """The graph with the edges that there are, and whether they still serve; None without edges, and on a CPU.

        What is asked of a GPU meanwhile need not wait for the answer, and counts only if it is yes.
        """
        if self._made is None or self._edges is None or not searches(graph.device) or not self._made.fits(graph):
            return None
        return graph.with_edges(*self._edges), Answer(self._made.holds_there(graph))

    @property
    def origin(self) -> tuple[Tensor, Tensor] | None:
        """Positions and cells for which the list was made, float64; made for them again, it is the same."""
        return None if self._made is None else (self._made.positions, self._made.cell)

    def forget(self) -> None:
        """Make the list anew next time."""
        self._made = None


class Snapshot:
    """The geometry for which a list was made that holds every pair closer than `reach`."""

    def __init__(self, graph: AtomicGraph, cutoff: float, reach: float) -> None:
        self.cutoff, self.reach, self.device = cutoff, reach, graph.device
        where = graph.device if searches(graph.device) else torch.device("cpu")
        self.positions, self.cell = (_copy(x, where, torch.float64) for x in (graph.positions, graph.cell))
        self.pbc, self.batch = _copy(graph.pbc, where, torch.bool), _copy(graph.batch, where, torch.int64)

    @cached_property
    def arguments(self) -> tuple[float, ...]:
        """What `holds` asks for besides the geometry now."""
        self.memory = torch.empty(4, *self.cell.shape, dtype=torch.float64)
        tensors = self.positions, self.cell, self.pbc, self.batch, *self.memory
        return *(address(x) for x in tensors), len(self.positions), len(self.cell), self.cutoff, self.reach

    def fits(self, graph: AtomicGraph) -> bool:
        """Whether a graph may have the same atoms, as far as sizes tell."""
        same = graph.positions.shape == self.positions.shape and graph.cell.shape == self.cell.shape
        return same and graph.device == self.device

    def still_holds(self, graph: AtomicGraph) -> bool:
        """Whether the list holds all pairs of this graph that are closer than the cutoff; see VerletList."""
        if not self.fits(graph):
            return False
        return self.still_holds_anywhere(graph) if searches(self.device) else self.still_holds_on_host(graph)

    def still_holds_on_host(self, graph: AtomicGraph) -> bool:
        positions, cell = on_host(graph.positions, torch.float64), on_host(graph.cell, torch.float64)
        pbc, batch = on_host(graph.pbc, torch.bool), on_host(graph.batch, torch.int64)
        now = address(positions), address(cell), address(pbc), address(batch)
        return bool(holds(*now, *self.arguments))

    def still_holds_anywhere(self, graph: AtomicGraph) -> bool:
        """The same in torch, which waits for the device."""
        return bool(self.holds_there(graph))

    def holds_there(self, graph: AtomicGraph) -> Tensor:
        """() the same on the device; counts the farthest atom of a system twice instead of the two farthest."""
        before, now = (periodic_lattice(x.detach().double(), self.pbc) for x in (self.cell, graph.cell))
        deformation = torch.linalg.inv_ex(before).inverse @ now
        metric = deformation @ deformation.mT
        diagonal = metric.diagonal(dim1=-2, dim2=-1)
        stretch = (diagonal + diagonal.abs() - metric.abs().sum(dim=-1)).amin(dim=-1).clamp(min=0).sqrt()
        moved = graph.positions.detach().double() - to_cartesian(self.positions, deformation, self.batch)
        near = 2 * torch.linalg.vector_norm(moved, dim=-1) < (stretch * self.reach - self.cutoff)[self.batch]
        return near.all() & (graph.pbc == self.pbc).all() & (graph.batch == self.batch).all()


class Answer:
    """What a GPU finds true. Calling it waits for that alone, not for what was asked of the GPU after it."""

    def __init__(self, value: Tensor) -> None:
        self._value, self._arrived = value.to("cpu", non_blocking=True), torch.cuda.Event()  # in pinned memory
        self._arrived.record()

    def __call__(self) -> bool:
        self._arrived.synchronize()
        return bool(self._value)


def _copy(x: Tensor, where: torch.device, dtype: torch.dtype) -> Tensor:
    return x.detach().to(where).to(dtype, copy=True, memory_format=torch.contiguous_format)


class Comparison(NamedTuple):
    """Geometries now and before, and memory (systems, 3, 3) for lattices and deformations."""

    positions: Floats
    cell: Floats
    pbc: Bools
    batch: Ints
    old_positions: Floats
    old_cell: Floats
    old_pbc: Bools
    old_batch: Ints
    lattice: Floats
    old_lattice: Floats
    inverse: Floats
    deformation: Floats


@compiled
def holds(w: Comparison, atoms: int, systems: int, cutoff: float, reach: float) -> bool:
    """Whether no two atoms have come closer than the cutoff that were farther apart than `reach`."""
    i = 0
    for s in range(systems):
        margin = find_deformation(w, s) * reach - cutoff
        if not margin > 0.0:
            return False
        farthest, second = 0.0, 0.0  # squares
        while i < atoms and w.batch[i] == s and w.old_batch[i] == s:
            square = 0.0
            for d in range(3):
                x = w.positions[3 * i + d]
                for k in range(3):
                    x -= w.old_positions[3 * i + k] * w.deformation[9 * s + 3 * k + d]
                square += x * x
            if not square < margin * margin:
                return False
            second = max(second, min(farthest, square))
            farthest = max(farthest, square)
            i += 1
        if not sqrt(farthest) + sqrt(second) < margin:
            return False
    return i == atoms


@compiled
def find_deformation(w: Comparison, s: int) -> float:
    """How the lattice of a system is deformed; returns the least by which it stretches any vector, or 0 if unknown."""
    same = True
    for k in range(3):
        if w.pbc[3 * s + k] != w.old_pbc[3 * s + k]:
            return 0.0
    for n in range(9 * s, 9 * s + 9):
        same = same & (w.cell[n] == w.old_cell[n])
        w.deformation[n] = 1.0 if (n - 9 * s) % 4 == 0 else 0.0
    if same:
        return 1.0
    if not complete_lattice(w.old_cell, w.pbc, s, w.old_lattice) or not invert(w.old_lattice, s, w.inverse):
        return 0.0
    if not complete_lattice(w.cell, w.pbc, s, w.lattice):
        return 0.0
    for k in range(3):
        for d in range(3):
            x = 0.0
            for m in range(3):
                x += w.inverse[9 * s + 3 * k + m] * w.lattice[9 * s + 3 * m + d]
            w.deformation[9 * s + 3 * k + d] = x
    least = inf
    for k in range(3):
        bound = 0.0
        for l in range(3):
            metric = 0.0
            for d in range(3):
                metric += w.deformation[9 * s + 3 * k + d] * w.deformation[9 * s + 3 * l + d]
            bound += metric if k == l else -abs(metric)
        least = min(least, bound)
    return sqrt(max(least, 0.0))
