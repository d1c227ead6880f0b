"""A cell list for the CPU that emits edges in their final order, without sorting them.

Atoms are sorted into bins (Quentrec and Brot, J. Comput. Phys. 13, 430 (1973)). Then every atom as a sender, in
ascending order, and every periodic image of it, in ascending order, is shown to the atoms in the bins around. So each
receiver meets its senders in the order in which they are to be listed, and an edge goes straight to the next free
place of its receiver. Where these places begin is known from a first pass that only counts: an atom is seen by as many
as it sees, because (x_i - x_j) + t and (x_j - x_i) - t round alike.
"""

from __future__ import annotations

from itertools import accumulate
from math import ceil, floor, inf, sqrt

import torch
from torch import Tensor

from atomsml.ops.loop_code import Bools, Floats, Ints, compiled

BINS_PER_CUTOFF = 2  # along an axis
BINS_PER_ATOM = 4  # at most; else bins are wider: two atoms 1e6 A apart must not fill the memory with empty bins
FARTHEST = 2.0**53  # cells

# columns of what is known of an atom: cells taken off to wrap it (3), its bin along each axis (3), its bin among those
# of all systems, and where its next edge goes
SHIFT, PLACE, BIN, NEXT, ATOM = 0, 3, 6, 7, 8
# columns of the grid of a system: bins along each axis (3), bins to look at on either side (3), its first bin
SIZE, AROUND, FIRST_BIN, GRID = 0, 3, 6, 7


def find_edges(
    positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, batch: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Edges and offsets as `neighbor_list` returns them, from contiguous tensors.

    None if a number is not finite, a periodic cell is singular or the atoms are not sorted by system.
    """
    atoms, systems = len(batch), len(cell)
    num_bins = BINS_PER_ATOM * atoms + systems + 2
    sizes = [9 * systems, 9 * systems, 3 * atoms, 3 * atoms, ATOM * atoms, GRID * systems, num_bins, atoms, atoms]
    memory = torch.empty(sum(sizes), dtype=torch.int64)
    ends = accumulate(sizes, initial=memory.data_ptr() // 8)
    lattice, inverse, wrapped, binned, atom, grid, bins, order, found, _ = (8 * end for end in ends)
    x, h, periodic, system = (tensor.data_ptr() for tensor in (positions, cell, pbc, batch))
    shape = atoms, systems
    arrays = lattice, inverse, wrapped, binned, atom, grid, bins
    if not prepare(x, h, periodic, system, *shape, cutoff, *arrays, num_bins):
        return None
    sort(atoms, num_bins, wrapped, binned, atom, bins, order)
    inputs = (periodic, system, atoms, lattice, wrapped, binned, atom, grid, bins, order, cutoff * cutoff, found)
    edges = visit(*inputs, 0, 0, 0)
    edge_index, offsets = torch.empty(2, edges, dtype=torch.int64), torch.empty(edges, 3, dtype=torch.int64)
    if edges:
        visit(*inputs, edges, edge_index.data_ptr(), offsets.data_ptr())
    return edge_index, offsets


@compiled
def prepare(
    positions: Floats,
    cell: Floats,
    pbc: Bools,
    batch: Ints,
    atoms: int,
    systems: int,
    cutoff: float,
    lattice: Floats,
    inverse: Floats,
    wrapped: Floats,
    fractional: Floats,
    atom: Ints,
    grid: Ints,
    bins: Ints,
    num_bins: int,
) -> bool:
    """Wrap all atoms, find their bins, and count the atoms of each bin."""
    for b in range(num_bins):
        bins[b] = 0
    begin, first_bin = 0, 0
    for s in range(systems):
        end = begin
        while end < atoms and batch[end] == s:
            end += 1
        if not complete_lattice(cell, pbc, s, lattice, inverse):
            return False
        if not wrap(positions, pbc, s, begin, end, lattice, inverse, wrapped, fractional, atom):
            return False
        grid[GRID * s + FIRST_BIN] = first_bin
        first_bin += lay_grid(pbc, s, begin, end, cutoff, inverse, fractional, atom, grid)
        for i in range(begin, end):
            bins[atom[ATOM * i + BIN] + 2] += 1
        begin = end
    return begin == atoms


@compiled
def complete_lattice(cell: Floats, pbc: Bools, s: int, lattice: Floats, inverse: Floats) -> bool:
    """The cell of a system with unit vectors along open axes, orthogonal to the others, and its inverse."""
    first = 0  # periodic axis, if there is one
    for k in range(3):
        if pbc[3 * s + 2 - k]:
            first = 2 - k
        for d in range(9 * s + 3 * k, 9 * s + 3 * k + 3):
            if not abs(cell[d]) < inf:
                return False
            lattice[d] = cell[d] if pbc[3 * s + k] else 0.0
    row = 9 * s + 3 * first
    if not pbc[3 * s + first]:
        lattice[row] = 1.0
    second = 9 * s + 3 * ((first + 1) % 3)
    if not pbc[3 * s + (first + 1) % 3]:
        least = 0  # Cartesian axis least parallel to the first vector
        for d in range(3):
            least = d if abs(lattice[row + d]) < abs(lattice[row + least]) else least
        lattice[second + least] = 1.0
    for step in range(3):
        k = (first + 2 - step) % 3
        if not pbc[3 * s + k]:
            u, v = 9 * s + 3 * ((k + 1) % 3), 9 * s + 3 * ((k + 2) % 3)
            x, y, z = cross(lattice, u, v, 0), cross(lattice, u, v, 1), cross(lattice, u, v, 2)
            length = sqrt(x * x + y * y + z * z)
            row = 9 * s + 3 * k
            lattice[row], lattice[row + 1], lattice[row + 2] = x / length, y / length, z / length
    return invert(lattice, s, inverse)


@compiled
def invert(lattice: Floats, s: int, inverse: Floats) -> bool:
    """Columns are the reciprocal vectors, without the 2 pi; False for vectors that lie almost in a plane."""
    a, determinant, lengths = 9 * s, 0.0, 1.0
    for k in range(3):
        determinant += lattice[a + k] * cross(lattice, a + 3, a + 6, k)
        x, y, z = lattice[a + 3 * k], lattice[a + 3 * k + 1], lattice[a + 3 * k + 2]
        lengths *= sqrt(x * x + y * y + z * z)
    for k in range(3):
        for d in range(3):
            inverse[a + 3 * d + k] = cross(lattice, a + 3 * ((k + 1) % 3), a + 3 * ((k + 2) % 3), d) / determinant
    return abs(determinant) > 1e-8 * lengths


@compiled
def cross(vectors: Floats, u: int, v: int, d: int) -> float:
    """Component of the vector product of two vectors that begin at u and v."""
    e, f = (d + 1) % 3, (d + 2) % 3
    return vectors[u + e] * vectors[v + f] - vectors[u + f] * vectors[v + e]


@compiled
def wrap(
    positions: Floats,
    pbc: Bools,
    s: int,
    begin: int,
    end: int,
    lattice: Floats,
    inverse: Floats,
    wrapped: Floats,
    fractional: Floats,
    atom: Ints,
) -> bool:
    """Move the atoms of a system into its cell along periodic axes; False where one is not finite."""
    for i in range(begin, end):
        for d in range(3):
            wrapped[3 * i + d] = positions[3 * i + d]
        for k in range(3):
            column = 9 * s + k
            u = positions[3 * i] * inverse[column]
            u += positions[3 * i + 1] * inverse[column + 3] + positions[3 * i + 2] * inverse[column + 6]
            if not abs(u) < FARTHEST:
                return False
            shift = floor(u) * int(pbc[3 * s + k])
            fractional[3 * i + k] = u - shift
            atom[ATOM * i + SHIFT + k] = shift
            for d in range(3):
                wrapped[3 * i + d] -= shift * lattice[9 * s + 3 * k + d]
    return True


@compiled
def lay_grid(
    pbc: Bools,
    s: int,
    begin: int,
    end: int,
    cutoff: float,
    inverse: Floats,
    fractional: Floats,
    atom: Ints,
    grid: Ints,
) -> int:
    """The bin of each atom of a system, along each axis and among all systems; returns the number of its bins."""
    reach = cutoff * (1 + 1e-6)  # rounded coordinates must not put a neighbour one bin too far
    count = 1
    for k in range(3):
        size = GRID * s + SIZE + k
        grid[size] = min(1000000, max(1, floor(min(1e6, height(k) * BINS_PER_CUTOFF / reach))))
    return count
