"""CPU kernels of the geometry of edges: what a convolution needs to know of an edge, and the forces that come back.

`find` goes over the edges of some atoms, drops those beyond the cutoff (a list with a skin has such) and writes for the
others

    v = x(sender) + offset cell - x(receiver)     r = |v|     u = v / r
    Y_k(u) = 1/l sum over i, j of u_i D[j, i, k] Y_j(u)            k of degree l, j of degree l - 1
    number of the spline's piece, and the weights of its coefficients (radial_table.py)

where D are the gradients of the solid harmonics (o3/spherical_harmonics.py). `pull_back` turns the gradient with
respect to r and Y into that with respect to v, G u + (g - (g . u) u) / r with g_i = sum of grad_Y_k D[j, i, k] Y_j.

Atoms are counted in slots, the order in which a program works on them. All of it runs in float64; results that
convolutions read are rounded to the type of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from llvmlite.ir import Value
from torch import Tensor

from atomsml.codegen.numbers import Number, constant, from_integer, load, store, total
from atomsml.codegen.vectors import I64, Code, Kernel
from atomsml.o3.spherical_harmonics import gradient_matrix
from atomsml.programs.plan import Plan

DEGREE = 5  # of the splines
WEIGHTS = DEGREE + 1


@dataclass(frozen=True)
class EdgeArrays:
    """Edges by slot of their receiver: those of slot n are begin[n] .. end[n] - 1."""

    begin: Tensor  # (atoms,)
    end: Tensor  # (atoms,)
    sender: Tensor  # (edges,) slot
    kind: Tensor  # (edges,) species of the receiver * number of species + species of the sender
    piece: Tensor  # (edges,) of the radial splines
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
        """Take over a neighbour list with room for it."""
        edges = edge_index.shape[1]
        self.batch[:-1] = batch
        self.sender[:edges] = edge_index[0]
        self.offset[:edges] = cell_offsets
        torch.cumsum(torch.bincount(edge_index[1], minlength=len(self.order)), 0, out=self.row_start[1:])


def find(
    plan: Plan, atoms: AtomArrays, edges: EdgeArrays, scale: Tensor, num_species: int, lmax: int, first: int, last: int
) -> None:
    """Fill `edges` for the slots from first to last - 1, their gradients with zeros.

    scale is float64: the cutoff, and the number of pieces of the splines.
    """
    given = [atoms.order, atoms.slot, atoms.species, atoms.row_start, atoms.sender, atoms.offset, atoms.batch]
    found = [edges.begin, edges.end, edges.sender, edges.kind, edges.piece]
    arrays = [atoms.positions, atoms.cell, scale, edges.direction, edges.weights, edges.harmonics, edges.gradient]
    kernel = _find_kernel(lmax, edges.harmonics.dtype)
    plan.add(kernel, [*given, *found, *arrays], num_species, first, last)


def pull_back(
    plan: Plan, edges: EdgeArrays, position_gradient: Tensor, virial: Tensor, lmax: int, first: int, last: int
) -> None:
    """Forces of the edges, and their sums over each receiver: position_gradient (atoms, 3), virial (atoms, 9)."""
    arrays = [edges.begin, edges.end, edges.direction, edges.harmonics, edges.gradient, edges.force]
    kernel = _pull_back_kernel(lmax, edges.harmonics.dtype)
    plan.add(kernel, [*arrays, position_gradient, virial], first, last)


def add_to_senders(plan: Plan, edges: EdgeArrays, position_gradient: Tensor, first: int, last: int) -> None:
    plan.add(_senders_kernel(), [edges.begin, edges.end, edges.sender, edges.force, position_gradient], first, last)


@lru_cache
def _find_kernel(lmax: int, dtype: torch.dtype) -> Kernel:
    given = ["order", "slot", "species", "row_start", "list_sender", "offset", "batch"]
    found = ["begin", "end", "sender", "kind", "piece"]
    arrays = ["positions_double", "cell_double", "scale_double", "direction_double", "weights", "harmonics", "gradient"]
    names = [f"{name}_index" for name in given + found] + arrays
    code = Code("find_edges", names, ["num_species", "first", "last"], dtype)
    b = code.builder
    cutoff, pieces = load(code, "scale_double", I64(0), 2)

    def atom(t: Value, _: list[Value]) -> list[Value]:
        n = code.integer(code["order_index"], t)
        centre = load(code, "positions_double", n, 3)
        kinds = b.mul(code.integer(code["species_index"], n), code["num_species"])
        cell = load(code, "cell_double", code.integer(code["batch_index"], n), 9)

        def edge(e: Value, counted: list[Value]) -> list[Value]:
            (out,) = counted
            sender = code.integer(code["list_sender_index"], e)
            image = [
                from_integer(code, code.integer(code["offset_index"], b.add(b.mul(e, I64(3)), I64(i))))
                for i in range(3)
            ]
            there = load(code, "positions_double", sender, 3)
            v = [
                there[i] - centre[i] + (image[0] * cell[i] + image[1] * cell[3 + i] + image[2] * cell[6 + i])
                for i in range(3)
            ]
            r = total((x * x for x in v), code).sqrt()
            close = r.below(cutoff)
            with b.if_then(close):
                u = [x / r for x in v]
                store([*u, r], code, "direction_double", out)
                harmonics = _harmonics(code, lmax, u)
                store(harmonics, code, "harmonics", out)
                store([constant(code, 0.0)] * len(harmonics), code, "gradient", out)
                piece, weights = _spline(code, r, cutoff, pieces)
                store(weights, code, "weights", out)
                b.store(piece, b.gep(code["piece_index"], [out]))
                b.store(code.integer(code["slot_index"], sender), b.gep(code["sender_index"], [out]))
                kind = b.add(kinds, code.integer(code["species_index"], sender))
                b.store(kind, b.gep(code["kind_index"], [out]))
            return [b.add(out, b.zext(close, I64(0).type))]

        start = code.integer(code["row_start_index"], n)
        stop = code.integer(code["row_start_index"], b.add(n, I64(1)))
        (end,) = code.loop(start, stop, edge, [start])
        b.store(start, b.gep(code["begin_index"], [t]))
        b.store(end, b.gep(code["end_index"], [t]))
        return []

    code.loop(code["first"], code["last"], atom)
    return code.finish()


def _harmonics(code: Code, lmax: int, u: list[Number]) -> list[Number]:
    values = [constant(code, 1.0)]
    for k in range(1, (lmax + 1) ** 2):
        degree = int(k**0.5)
        values.append(total((u[i] * values[j] * (d / degree) for j, i, d in _gradients(lmax)[k]), code))
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


def _spline(code: Code, r: Number, cutoff: Number, pieces: Number) -> tuple[Value, list[Number]]:
    """Piece, and weights of values and slopes: u B_i and u' B_i + u B_i' with u = (1 - r / cutoff)^3.

    By the recursion of Cox and de Boor, in which the derivative is a difference of splines of one degree less.
    """
    b = code.builder
    ratio = r / cutoff
    beyond = ratio + 0.5
    scaled = pieces * 1.5 * ratio / beyond
    stretch = pieces * 0.75 / (beyond * beyond * cutoff)
    largest = b.fptosi((pieces - 1.0).value, I64(0).type)
    piece = scaled.floor()
    piece = b.select(b.icmp_signed("<", piece, largest), piece, largest)
    t = scaled - from_integer(code, piece)
    lower, splines = [], [constant(code, 1.0)]
    for p in range(1, DEGREE + 1):
        lower = splines
        splines = []
        for i in range(p + 1):
            rising = [(t + float(p - i)) * lower[i - 1]] if i > 0 else []
            falling = [(float(i + 1) - t) * lower[i]] if i < p else []
            splines.append(total(rising + falling, code) * (1 / p))
    nought = [constant(code, 0.0)]
    slopes = [(left - right) * stretch for left, right in zip(nought + lower, lower + nought, strict=True)]
    rest = 1.0 - ratio
    envelope, envelope_slope = rest * rest * rest, rest * rest * (constant(code, -3.0) / cutoff)
    values = [envelope * x for x in splines]
    return piece, values + [envelope_slope * x + envelope * y for x, y in zip(splines, slopes, strict=True)]


@lru_cache
def _pull_back_kernel(lmax: int, dtype: torch.dtype) -> Kernel:
    arrays = ["direction_double", "harmonics", "gradient", "force_double", "position_gradient_double", "virial_double"]
    code = Code("pull_back_edges", ["begin_index", "end_index", *arrays], ["first", "last"], dtype)
    components = (lmax + 1) ** 2

    def edge(e: Value, values: list[Value]) -> list[Value]:
        sums = [Number(code, value) for value in values]
        *u, r = load(code, "direction_double", e, 4)
        y, gradient = (load(code, name, e, components) for name in ("harmonics", "gradient"))
        slopes: list[list[Number]] = [[], [], []]
        for k in range(1, components):
            for j, i, d in _gradients(lmax)[k]:
                slopes[i].append(gradient[k] * y[j] * d)
        g = [total(terms, code) for terms in slopes]
        along = total((g[i] * u[i] for i in range(3)), code)
        force = [gradient[0] * u[i] + (g[i] - along * u[i]) / r for i in range(3)]
        store(force, code, "force_double", e)
        virial = [f * x * r for f in force for x in u]
        return [(x + y).value for x, y in zip(sums, [*force, *virial], strict=True)]

    def atom(t: Value, _: list[Value]) -> list[Value]:
        sums = [Number(code, value) for value in _over_edges(code, t, edge, [constant(code, 0.0).value] * 12)]
        store([0.0 - x for x in sums[:3]], code, "position_gradient_double", t)
        store(sums[3:], code, "virial_double", t)
        return []

    code.loop(code["first"], code["last"], atom)
    return code.finish()


@lru_cache
def _senders_kernel() -> Kernel:
    names = ["begin_index", "end_index", "sender_index", "force_double", "position_gradient_double"]
    code = Code("add_to_senders", names, ["first", "last"], torch.float64)

    def edge(e: Value, _: list[Value]) -> list[Value]:
        sender = code.integer(code["sender_index"], e)
        force, sums = load(code, "force_double", e, 3), load(code, "position_gradient_double", sender, 3)
        store([x + f for x, f in zip(sums, force, strict=True)], code, "position_gradient_double", sender)
        return []

    def atom(t: Value, _: list[Value]) -> list[Value]:
        return _over_edges(code, t, edge, [])

    code.loop(code["first"], code["last"], atom)
    return code.finish()


def _over_edges(
    code: Code, t: Value, body: Callable[[Value, list[Value]], list[Value]], carried: list[Value]
) -> list[Value]:
    begin, end = (code.integer(code[name], t) for name in ("begin_index", "end_index"))
    return code.loop(begin, end, body, carried)
