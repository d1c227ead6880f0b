"""Atoms wrapped into their cells and sorted into bins, system by system, as compiled loops.

Bins are parallelepipeds along the lattice vectors. All bins of all systems are numbered one after the other, the last
axis fastest, so that bins side by side along it are one run of sorted atoms.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import floor, inf, sqrt
from typing import NamedTuple

from atomsml.codegen.loops import Bools, Floats, Ints, compiled
from atomsml.neighbors.lattice import complete_lattice, invert

BINS_PER_CUTOFF = 2  # along an axis
BINS_PER_ATOM = 4  # at most; else bins are wider: two atoms 1e6 A apart must not fill the memory with empty bins
LONGEST_GRID = 1e6  # bins along an axis
MOST_NEIGHBORS = 20_000  # of an atom: a cutoff of 30 A in a metal; more is a wrong unit, and would fill the memory
MOST_IMAGES = 2**22  # of an atom, among which neighbours are sought; more is a cell that is far too small or too flat
FARTHEST = 2.0**53  # cells from the origin; beyond there are no fractions


class Work(NamedTuple):
    """The atoms, and the memory in which they are sorted."""

    positions: Floats  # (atoms, 3)
    cell: Floats  # (systems, 3, 3)
    pbc: Bools  # (systems, 3)
    batch: Ints  # (atoms,)
    atoms: int
    systems: int
    cutoff: float
    num_bins: int  # for which there is room
    lattice: Floats  # (systems, 3, 3) periodic vectors; along open axes unit vectors orthogonal to them
    inverse: Floats  # (systems, 3, 3)
    reach: Floats  # (systems, 3) the cutoff in units of the lattice vectors, or rather of the distances of their planes
    lowest: Floats  # (systems, 3) where the atoms begin and the bins, in units of the lattice vectors
    highest: Floats  # (systems, 3) where both end
    scale: Floats  # (systems, 3) bins along a lattice vector
    size: Ints  # (systems, 3) number of bins along each axis
    first_bin: Ints  # (systems,)
    shift: Ints  # (atoms, 3) cells taken off to wrap an atom
    wrapped: Floats  # (atoms, 3)
    fractional: Floats  # (atoms, 3) wrapped, in units of the lattice vectors
    bin: Ints  # (atoms,)
    bins: Ints  # (num_bins,) the atoms of bin b are order[bins[b]] to order[bins[b + 1] - 1]
    order: Ints  # (atoms,)
    binned: Floats  # (atoms, 3) wrapped positions in this order


@lru_cache(maxsize=16)
def memory_layout(atoms: int, systems: int, num_bins: int, *more: int) -> list[int]:
    """Where in memory, in bytes, the arrays of `Work` from `lattice` on begin, others of `more` numbers and the end."""
    of_systems = [9, 9, 3, 3, 3, 3, 3, 1]
    sizes = [*(n * systems for n in of_systems), 3 * atoms, 3 * atoms, 3 * atoms, atoms, num_bins, atoms, 3 * atoms]
    return [8 * n for n in accumulate([*sizes, *more], initial=0)]


@compiled
def sort_into_bins(w: Work) -> bool:
    """Fill the memory; False if a number is not finite, a cell singular or the atoms are not sorted by system."""
    for b in range(w.num_bins):
        w.bins[b] = 0
    begin, first_bin = 0, 0
    for s in range(w.systems):
        end = begin
        while end < w.atoms and w.batch[end] == s:
            end += 1
        if not complete_lattice(w.cell, w.pbc, s, w.lattice) or not invert(w.lattice, s, w.inverse):
            return False
        w.first_bin[s] = first_bin
        if begin < end:
            if not wrap(w, s, begin, end):
                return False
            first_bin += lay_bins(w, s, begin, end)
            find_bins(w, s, begin, end)
        begin = end
    if begin < w.atoms:
        return False
    sort(w)
    return True


@compiled
def wrap(w: Work, s: int, begin: int, end: int) -> bool:
    """Move the atoms of a system into its cell along periodic axes; False where one is not finite."""
    for i in range(begin, end):
        for d in range(3):
            w.wrapped[3 * i + d] = w.positions[3 * i + d]
        for k in range(3):
            u = 0.0
            for d in range(3):
                u += w.positions[3 * i + d] * w.inverse[9 * s + 3 * d + k]
            if not abs(u) < FARTHEST:
                return False
            shift = floor(u) * int(w.pbc[3 * s + k])
            w.shift[3 * i + k] = shift
            w.fractional[3 * i + k] = u - shift
            for d in range(3):
                w.wrapped[3 * i + d] -= shift * w.lattice[9 * s + 3 * k + d]
    return True


@compiled
def lay_bins(w: Work, s: int, begin: int, end: int) -> int:
    """Cut the space that the atoms of a system take into bins; returns how many."""
    for k in range(3):
        n = 3 * s + k
        x, y, z = w.inverse[9 * s + k], w.inverse[9 * s + 3 + k], w.inverse[9 * s + 6 + k]
        w.reach[n] = w.cutoff * (1 + 1e-6) * sqrt(x * x + y * y + z * z)  # rounding must not hide a neighbour
        w.lowest[n], w.highest[n] = inf, -inf
        for i in range(begin, end):
            w.lowest[n] = min(w.lowest[n], w.fractional[3 * i + k])
            w.highest[n] = max(w.highest[n], w.fractional[3 * i + k])
        w.size[n] = max(1, floor(min(LONGEST_GRID, (w.highest[n] - w.lowest[n]) * BINS_PER_CUTOFF / w.reach[n])))
    while w.size[3 * s] * w.size[3 * s + 1] * w.size[3 * s + 2] > BINS_PER_ATOM * (end - begin):
        most = 3 * s
        for n in range(3 * s + 1, 3 * s + 3):
            most = n if w.size[n] > w.size[most] else most
        w.size[most] = (w.size[most] + 1) // 2
    for n in range(3 * s, 3 * s + 3):
        w.scale[n] = w.size[n] / (w.highest[n] - w.lowest[n]) if w.size[n] > 1 else 0.0
    return w.size[3 * s] * w.size[3 * s + 1] * w.size[3 * s + 2]


@compiled
def find_bins(w: Work, s: int, begin: int, end: int) -> None:
    """The bin of every atom of a system; bins[b + 2] counts the atoms of bin b."""
    for i in range(begin, end):
        b = 0
        for k in range(3):
            b = b * w.size[3 * s + k] + place(w, 3 * s + k, w.fractional[3 * i + k])
        b += w.first_bin[s]
        w.bin[i] = b
        w.bins[b + 2] += 1


@compiled
def place(w: Work, n: int, u: float) -> int:
    """The bin along one axis that is closest to a coordinate."""
    return floor(max(0.0, min(w.size[n] - 1.0, (u - w.lowest[n]) * w.scale[n])))


@compiled
def sort(w: Work) -> None:
    """List the atoms bin by bin; bins[b + 1] moves from the first atom of bin b to the first of the next bin."""
    for b in range(2, w.num_bins):
        w.bins[b] += w.bins[b - 1]
    for i in range(w.atoms):
        n = w.bins[w.bin[i] + 1]
        w.bins[w.bin[i] + 1] = n + 1
        w.order[n] = i
        for d in range(3):
            w.binned[3 * n + d] = w.wrapped[3 * i + d]
