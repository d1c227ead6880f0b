"""CPU kernels of the geometry of edges: what a convolution needs to know of an edge, and the forces that come back.

`find` goes over the edges of some atoms, drops those beyond the cutoff (a list with a skin has such) and writes for the
others

    v = x(sender) + offset cell - x(receiver)     r = |v|     u = v / r
    Y_k(u) = 1/l sum over i, j of u_i D[j, i, k] Y_j(u)            k of degree l, j of degree l - 1
    row of the spline's first coefficient, and the weights of six of them (radial/table.py)

where D are the gradients of the solid harmonics (o3/spherical_harmonics.py). `pull_back` turns the gradient with
respect to r and Y into that with respect to v, G u + (g - (g . u) u) / r with g_i = sum of grad_Y_k D[j, i, k] Y_j.

Atoms are counted in slots, the order in which a program works on them. All of it runs in float64; results that
convolutions read are rounded to the type of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import DOUBLE, Value, total
from atomsml.o3.spherical_harmonics import gradient_matrix
from atomsml.programs.plan import Count, Plan
from atomsml.radial.bases import CORE_BEGINS
from atomsml.radial.table import SplineGrid

DEGREE = 5  # of the splines
WEIGHTS = DEGREE + 1


@dataclass(frozen=True)
class EdgeArrays:
    """Edges by slot of their receiver: those of slot n are begin[n] .. end[n] - 1."""

    begin: Tensor  # (atoms,)
    end: Tensor  # (atoms,)
    sender: Tensor  # (edges,) slot
    kind: Tensor  # (edges,) species of the receiver * number of species + species of the sender
    piece: Tensor  # (edges,) row of its first coefficient in the radial splines
    weights: Tensor  # (edges, 2, 6) of six successive coefficients, in values and in slopes
    direction: Tensor  # (edges, 4) float64: u, r
    harmonics: Tensor  # (edges, (lmax + 1)^2)
    gradient: Tensor  # (edges, (lmax + 1)^2) of the energy, with respect to the harmonics and, in place of Y_00, to r
    force: Tensor  # (edges, 3) float64: gradient of the energy with respect to v

    @staticmethod
    def new(atoms: int, edges: int, lmax: int, dtype: torch.dtype) -> EdgeArrays:
        """Memory for them."""
        components = (lmax + 1) ** 2
        begin, end = torch.empty(2, atoms, dtype=torch.int64)
        sender, kind, piece = torch.empty(3, edges, dtype=torch.int64)
        weights = torch.empty(edges, 2, WEIGHTS, dtype=dtype)
        direction, force = (torch.empty(edges, n, dtype=torch.float64) for n in (4, 3))
        harmonics, gradient = torch.empty(2, edges, components, dtype=dtype)
        return EdgeArrays(begin, end, sender, kind, piece, weights, direction, harmonics, gradient, force)


@dataclass(frozen=True)
class AtomArrays:
    """What `find` is given: atoms of a graph with its neighbour list."""

    order: Tensor  # (atoms,) atom in each slot
    slot: Tensor  # (atoms,) slot of each atom
    species: Tensor  # (atoms,)
    positions: Tensor  # (atoms, 3) float64
    cell: Tensor  # (systems, 3, 3) float64
    batch: Tensor  # (atoms,)
    row_start: Tensor  # (atoms + 1,) first edge into each atom
    sender: Tensor  # (edges,)
    offset: Tensor  # (edges, 3)

    @staticmethod
    def new(order: Tensor, slot: Tensor, species: Tensor, systems: int, edges: int) -> AtomArrays:
        """With memory for what changes from graph to graph."""
        atoms = len(order)
        batch, row_start = torch.zeros(2, atoms + 1, dtype=torch.int64)
        sender, offset = torch.empty(edges, dtype=torch.int64), torch.empty(edges, 3, dtype=torch.int64)
        positions, cell = (torch.empty(n, 3, dtype=torch.float64) for n in (atoms, 3 * systems))
        return AtomArrays(order, slot, species, positions, cell.view(-1, 3, 3), batch, row_start, sender, offset)

    def load_list(self, edge_index: Tensor, cell_offsets: Tensor, batch: Tensor) -> None:
        """Take over a neighbour list for which there is room."""
        atoms, edges = len(batch), edge_index.shape[1]
        self.batch[:atoms] = batch
        self.sender[:edges] = edge_index[0]
        self.offset[:edges] = cell_offsets
        torch.cumsum(torch.bincount(edge_index[1], minlength=atoms), 0, out=self.row_start[1 : atoms + 1])


def find(
    plan: Plan,
    atoms: AtomArrays,
    edges: EdgeArrays,
    grid: SplineGrid,
    num_species: int,
    lmax: int,
    first: int | Count,
    last: int | Count,
    cores: Tensor | None = None,
) -> None:
    """Fill `edges` for the slots from first to last - 1, their gradients with zeros; `grid` is that of the splines.

    With `cores` (elements,), float64, A, all radial functions of a pair are multiplied by `radial.bases.fade_in`, which
    ends at the sum of the two cores and begins at CORE_BEGINS of it.
    """
    given = [atoms.order, atoms.slot, atoms.species, atoms.row_start, atoms.sender, atoms.offset, atoms.batch]
    found = [edges.begin, edges.end, edges.sender, edges.kind, edges.piece]
    arrays = [
        atoms.positions,
        atoms.cell,
        grid.numbers,
        edges.direction,
        edges.weights,
        edges.harmonics,
        edges.gradient,
    ]
    arrays += [] if cores is None else [cores]
    kernel = _find_kernel(lmax, len(grid.pieces), grid.power, edges.harmonics.dtype, cores is not None)
    plan.add(kernel, [*given, *found, *arrays], num_species, first, last)


def pull_back(
    plan: Plan,
    edges: EdgeArrays,
    position_gradient: Tensor,
    virial: Tensor,
    lmax: int,
    first: int | Count,
    last: int | Count,
) -> None:
    """Forces of the edges, and their sums over each receiver: position_gradient (atoms, 3), virial (atoms, 9)."""
    arrays = [edges.begin, edges.end, edges.direction, edges.harmonics, edges.gradient, edges.force]
    kernel = _pull_back_kernel(lmax, edges.harmonics.dtype)
    plan.add(kernel, [*arrays, position_gradient, virial], first, last)


def add_to_senders(
    plan: Plan, edges: EdgeArrays, position_gradient: Tensor, first: int | Count, last: int | Count
) -> None:
    plan.add(_senders_kernel(), [edges.begin, edges.end, edges.sender, edges.force, position_gradient], first, last)


@built_once
def _find_kernel(lmax: int, segments: int, power: int, dtype: torch.dtype, with_cores: bool) -> Kernel:
    given = ["order", "slot", "species", "row_start", "list_sender", "offset", "batch"]
    found = ["begin", "end", "sender", "kind", "piece"]
    arrays = ["positions_double", "cell_double", "grid_double", "direction_double", "weights", "harmonics", "gradient"]
    names = [f"{name}_index" for name in given + found] + arrays + ["cores_double"] * with_cores
    code = Code("find_edges", names, ["num_species", "first", "last"], dtype)
    components = (lmax + 1) ** 2
    grid = _Grid(code["grid_double"].doubles(1 + 4 * segments), power)

    def atom(t: Value) -> None:
        n = code["order_index"][t]
        centre = code["positions_double"].row(n, 3).doubles(3)
        kinds = code["species_index"][n] * code.counts["num_species"]
        cell = code["cell_double"].row(code["batch_index"][n], 9).doubles(9)

        def edge(e: Value, out: Value) -> list[Value]:
            sender = code["list_sender_index"][e]
            image = [code["offset_index"][e * 3 + i].to(DOUBLE) for i in range(3)]
            there = code["positions_double"].row(sender, 3).doubles(3)
            v = [
                there[i] - centre[i] + (image[0] * cell[i] + image[1] * cell[3 + i] + image[2] * cell[6 + i])
                for i in range(3)
            ]
            r = total(x * x for x in v).sqrt()
            close = ~(r >= grid.cutoff)  # also what is not a number: it shows in the result
            with code.when(close):
                u = [x / r for x in v]
                code["direction_double"].row(out, 4).fill([*u, r])
                code["harmonics"].row(out, components).fill(_harmonics(code, lmax, u))
                code["gradient"].row(out, components).fill([code.double(0.0)] * components)
                piece, weights = _spline(code, r, grid)
                if with_cores:
                    core, other = (code["cores_double"][code["species_index"][x]] for x in (n, sender))
                    weights = _faded(r, core + other, weights)
                code["weights"].row(out, 2 * WEIGHTS).fill(weights)
                code["piece_index"][out] = piece
                code["sender_index"][out] = code["slot_index"][sender]
                code["kind_index"][out] = kinds + code["species_index"][sender]
            return [out + close]

        start, stop = code["row_start_index"][n], code["row_start_index"][n + 1]
        (end,) = code.loop(start, stop, edge, [start])
        code["begin_index"][t] = start
        code["end_index"][t] = end

    code.loop(code.counts["first"], code.counts["last"], atom)
    return code.finish()


def _harmonics(code: Code, lmax: int, u: list[Value]) -> list[Value]:
    values = [code.double(1.0)]
    for k in range(1, (lmax + 1) ** 2):
        degree = int(k**0.5)
        values.append(total(u[i] * values[j] * (d / degree) for j, i, d in _gradients(lmax)[k]))
    return values


@lru_cache
def _gradients(lmax: int) -> list[list[tuple[int, int, float]]]:
    """For each component k the (j, i, D[j, i, k]) that are not zero."""
    components = (lmax + 1) ** 2
    matrix = gradient_matrix(lmax).view(components, 3, components)
    found: list[list[tuple[int, int, float]]] = [[] for _ in range(components)]
    for j, i, k in (matrix.abs() > 1e-12).nonzero().tolist():
        found[k].append((j, i, matrix[j, i, k].item()))
    return found


class _Grid:
    """The numbers of a SplineGrid."""

    def __init__(self, numbers: list[Value], power: int) -> None:
        self.cutoff, self.power = numbers[0], power
        self.segments = [numbers[i : i + 4] for i in range(1, len(numbers), 4)]

    def segment(self, s: Value) -> list[Value]:
        """Begin, density, pieces and first row of the segment that holds s."""
        chosen, *others = self.segments
        for other in others:
            inside = s >= other[0]
            chosen = [inside.select(new, old) for new, old in zip(other, chosen, strict=True)]
        return chosen


def _spline(code: Code, r: Value, grid: _Grid) -> tuple[Value, list[Value]]:
    """Piece, and weights of values and slopes: u B_i and u' B_i + u B_i' with u = (1 - r / cutoff)^power.

    By the recursion of Cox and de Boor, in which the derivative is a difference of splines of one degree less.
    """
    ratio = r / grid.cutoff
    beyond = ratio + 0.5
    s = 1.5 * ratio / beyond
    begin, density, pieces, first_row = grid.segment(s)
    position = (s - begin) * density
    stretch = density * 0.75 / (beyond * beyond * grid.cutoff)
    piece = (pieces - 1.0).truncated().least(position.saturated())
    t = position - piece
    lower, splines = [], [code.double(1.0)]
    for p in range(1, DEGREE + 1):
        lower = splines
        splines = []
        for i in range(p + 1):
            rising = [(t + float(p - i)) * lower[i - 1]] if i > 0 else []
            falling = [(float(i + 1) - t) * lower[i]] if i < p else []
            splines.append(total(rising + falling) * (1 / p))
    nought = [code.double(0.0)]
    slopes = [(left - right) * stretch for left, right in zip(nought + lower, lower + nought, strict=True)]
    rest = 1.0 - ratio
    below = prod([rest] * (grid.power - 1))
    envelope, envelope_slope = rest * below, below * (-float(grid.power) / grid.cutoff)
    values = [envelope * x for x in splines]
    return piece + first_row.truncated(), values + [
        envelope_slope * x + envelope * y for x, y in zip(splines, slopes, strict=True)
    ]


def _faded(r: Value, end: Value, weights: list[Value]) -> list[Value]:
    """Weights of values and slopes: f w, and f' w + f w' with f = fade_in and f' = 630 t^4 (1 - t)^4 dt/dr."""
    by_distance = 1.0 / (end * (1 - CORE_BEGINS))
    t = ((r - end * CORE_BEGINS) * by_distance).greatest(0.0).least(1.0)
    square, rest = t * t, 1.0 - t
    fade = square * square * t * (126.0 + t * (-420.0 + t * (540.0 + t * (t * 70.0 - 315.0))))
    slope = square * square * rest * rest * rest * rest * 630.0 * by_distance
    values, slopes = weights[:WEIGHTS], weights[WEIGHTS:]
    return [fade * x for x in values] + [slope * x + fade * y for x, y in zip(values, slopes, strict=True)]


@built_once
def _pull_back_kernel(lmax: int, dtype: torch.dtype) -> Kernel:
    arrays = ["direction_double", "harmonics", "gradient", "force_double", "position_gradient_double", "virial_double"]
    code = Code("pull_back_edges", ["begin_index", "end_index", *arrays], ["first", "last"], dtype)
    components = (lmax + 1) ** 2

    def edge(e: Value, *sums: Value) -> list[Value]:
        *u, r = code["direction_double"].row(e, 4).doubles(4)
        y, gradient = (code[name].row(e, components).doubles(components) for name in ("harmonics", "gradient"))
        slopes: list[list[Value]] = [[], [], []]
        for k in range(1, components):
            for j, i, d in _gradients(lmax)[k]:
                slopes[i].append(gradient[k] * y[j] * d)
        g = [total(terms or [code.double(0.0)]) for terms in slopes]
        along = total(g[i] * u[i] for i in range(3))
        force = [gradient[0] * u[i] + (g[i] - along * u[i]) / r for i in range(3)]
        code["force_double"].row(e, 3).fill(force)
        virial = [f * x * r for f in force for x in u]
        return [x + y for x, y in zip(sums, [*force, *virial], strict=True)]

    def atom(t: Value) -> None:
        sums = code.loop(code["begin_index"][t], code["end_index"][t], edge, [code.double(0.0)] * 12)
        code["position_gradient_double"].row(t, 3).fill([0.0 - x for x in sums[:3]])
        code["virial_double"].row(t, 9).fill(sums[3:])

    code.loop(code.counts["first"], code.counts["last"], atom)
    return code.finish()


@built_once
def _senders_kernel() -> Kernel:
    names = ["begin_index", "end_index", "sender_index", "force_double", "position_gradient_double"]
    code = Code("add_to_senders", names, ["first", "last"], torch.float64)

    def edge(e: Value) -> None:
        place = code["position_gradient_double"].row(code["sender_index"][e], 3)
        force = code["force_double"].row(e, 3).doubles(3)
        place.fill([x + f for x, f in zip(place.doubles(3), force, strict=True)])

    def atom(t: Value) -> None:
        code.loop(code["begin_index"][t], code["end_index"][t], edge)

    code.loop(code.counts["first"], code.counts["last"], atom)
    return code.finish()
