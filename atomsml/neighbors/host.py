"""A cell list for the CPU that lists edges in their final order without sorting them.

Atoms are sorted into bins (Quentrec and Brot, J. Comput. Phys. 13, 430 (1973)). Then every atom as a sender, and every
periodic image of it in ascending order, is shown to the atoms in the bins around, and it is counted how many senders
each receiver meets: so it is known where its edges begin. Going through the senders in ascending order, each edge takes
the next free place of its receiver.
"""

from __future__ import annotations

import ctypes
from math import ceil, floor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atomsml.codegen.checks import address, addresses
from atomsml.codegen.loops import Ints, compiled
from atomsml.geometry import ImpossibleGeometry
from atomsml.neighbors.bins import (
    BINS_PER_ATOM,
    MOST_IMAGES,
    MOST_NEIGHBORS,
    Work,
    memory_layout,
    place,
    sort_into_bins,
)

ROOM = 64  # neighbours per atom for which there is room at first
INVALID, CROWDED = -1, -2  # instead of a number of edges


def find_edges(
    positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, batch: Tensor
) -> tuple[Tensor, Tensor] | None:
    """What `neighbor_list` returns, from contiguous tensors on the CPU: float64, bool, int64.

    None if a number is not finite, a periodic cell is singular, or the atoms are not sorted by system.

    Raises:
        ImpossibleGeometry: an atom has more than MOST_NEIGHBORS, or MOST_IMAGES in reach.
    """
    atoms, systems = batch.shape[0], cell.shape[0]
    num_bins, room = BINS_PER_ATOM * atoms + 2, ROOM * atoms
    layout = memory_layout(atoms, systems, num_bins, atoms, atoms, room)
    blocks = [_empty(layout[-1] // 8)]
    *arrays, first, last, found = addresses(blocks[0].data_ptr(), layout)
    inputs = address(positions), address(cell), address(pbc), address(batch)
    fields: list[Any] = [*inputs, atoms, systems, cutoff, num_bins, *arrays]
    work = Work(*fields)
    atom_bits = atoms.bit_length()
    image_bits = (63 - atom_bits) // 3  # an atom and its image along each axis are packed into one number
    arguments = *work, atom_bits, image_bits, first, last
    edges = search(*arguments, 0, found, room)
    while edges < CROWDED:
        blocks.append(_empty(2 * room))
        ctypes.memmove(blocks[-1].data_ptr(), found, 8 * room)
        found, room = address(blocks[-1]), 2 * room
        edges = search(*arguments, CROWDED - edges - 1, found, room)
    if edges == CROWDED:
        raise crowded(cutoff)
    if edges == INVALID:
        return None
    edge_index, offsets = _empty(2, edges), _empty(edges, 3)
    out = edges, address(edge_index), address(offsets)
    write_edges(atoms, atom_bits, image_bits, first, last, found, work.order, work.shift, *out)
    return edge_index, offsets


def crowded(cutoff: float) -> ImpossibleGeometry:
    return ImpossibleGeometry(
        f"more than {MOST_NEIGHBORS} neighbours per atom within {cutoff:.3g} A; are cell and positions in Angstrom?"
    )


def _empty(*shape: int) -> Tensor:
    """Memory by numpy, which asks for large pages: those that torch gets take longer to come than to be filled."""
    return torch.from_numpy(np.empty(shape, np.int64))


@compiled
def search(w: Work, atom_bits: int, image_bits: int, first: Ints, last: Ints, done: int, found: Ints, room: int) -> int:
    """Find who is near to which image of each atom; of atom i they are found[first[i]] to found[last[i] - 1], packed.

    The atoms are taken bin by bin; some may be done already. Returns how many are found, or INVALID where `find_edges`
    returns None, CROWDED where it raises, or CROWDED - 1 - n if there is no more room in `found` after n atoms.
    """
    if done == 0 and not sort_into_bins(w):
        return INVALID
    total = last[w.order[done - 1]] if done > 0 else 0
    for n in range(done, w.atoms):
        i = w.order[n]
        first[i] = total
        ax, bx = first_image(w, i, 0), last_image(w, i, 0)
        ay, by = first_image(w, i, 1), last_image(w, i, 1)
        az, bz = first_image(w, i, 2), last_image(w, i, 2)
        if max(-ax, -ay, -az, bx, by, bz) >= 1 << image_bits - 1:
            return CROWDED
        if (bx - ax + 1.0) * (by - ay + 1.0) * (bz - az + 1.0) > MOST_IMAGES:
            return CROWDED
        for a in range(ax, bx + 1):
            for b in range(ay, by + 1):
                for c in range(az, bz + 1):
                    if total + w.atoms > room:
                        return CROWDED - 1 - n
                    total = find_near(w, i, a, b, c, atom_bits, image_bits, found, total)
                    if total - first[i] > MOST_NEIGHBORS:
                        return CROWDED
        last[i] = total
    return total


@compiled
def first_image(w: Work, i: int, k: int) -> int:
    """The first image of an atom along an axis that comes near the atoms of its system."""
    n = 3 * w.batch[i] + k
    return ceil(w.lowest[n] - w.reach[n] - w.fractional[3 * i + k]) if w.pbc[n] else 0


@compiled
def last_image(w: Work, i: int, k: int) -> int:
    n = 3 * w.batch[i] + k
    return floor(w.highest[n] + w.reach[n] - w.fractional[3 * i + k]) if w.pbc[n] else 0


@compiled
def find_near(w: Work, i: int, a: int, b: int, c: int, atom_bits: int, image_bits: int, found: Ints, total: int) -> int:
    """Append the atoms near an image of atom i to those found, of which there are `total`; returns the new total."""
    s = w.batch[i]
    shift_x = a * w.lattice[9 * s] + b * w.lattice[9 * s + 3] + c * w.lattice[9 * s + 6]
    shift_y = a * w.lattice[9 * s + 1] + b * w.lattice[9 * s + 4] + c * w.lattice[9 * s + 7]
    shift_z = a * w.lattice[9 * s + 2] + b * w.lattice[9 * s + 5] + c * w.lattice[9 * s + 8]
    itself = i if (a == 0) & (b == 0) & (c == 0) else -1
    zero = 1 << image_bits - 1  # packed images are not negative
    image = (((((a + zero) << image_bits) + b + zero) << image_bits) + c + zero) << atom_bits
    u, v = a + w.fractional[3 * i], b + w.fractional[3 * i + 1]
    z0 = place(w, 3 * s + 2, c + w.fractional[3 * i + 2] - w.reach[3 * s + 2])
    z1 = place(w, 3 * s + 2, c + w.fractional[3 * i + 2] + w.reach[3 * s + 2])
    for x in range(place(w, 3 * s, u - w.reach[3 * s]), place(w, 3 * s, u + w.reach[3 * s]) + 1):
        for y in range(place(w, 3 * s + 1, v - w.reach[3 * s + 1]), place(w, 3 * s + 1, v + w.reach[3 * s + 1]) + 1):
            column = w.first_bin[s] + (x * w.size[3 * s + 1] + y) * w.size[3 * s + 2]
            for n in range(w.bins[column + z0], w.bins[column + z1 + 1]):
                # (x_i - x_j) + t and (x_j - x_i) - t round alike: an edge has its reverse
                dx = (w.wrapped[3 * i] - w.binned[3 * n]) + shift_x
                dy = (w.wrapped[3 * i + 1] - w.binned[3 * n + 1]) + shift_y
                dz = (w.wrapped[3 * i + 2] - w.binned[3 * n + 2]) + shift_z
                found[total] = w.order[n] | image  # the next one takes its place unless this one is near: no branch
                total += (dx * dx + dy * dy + dz * dz < w.cutoff * w.cutoff) & (w.order[n] != itself)
    return total


@compiled
def write_edges(
    atoms: int,
    atom_bits: int,
    image_bits: int,
    first: Ints,
    last: Ints,
    found: Ints,
    free: Ints,
    shift: Ints,
    edges: int,
    edge_index: Ints,
    offsets: Ints,
) -> None:
    """Hand every sender with its image, packed, to its receivers; then unpack them in order.

    `free` is memory for the place at which the next edge of each receiver goes.
    """
    who, which, zero = (1 << atom_bits) - 1, (1 << image_bits) - 1, 1 << image_bits - 1
    for i in range(atoms):
        free[i] = 0
    for n in range(edges):
        free[found[n] & who] += 1
    begin = 0
    for i in range(atoms):
        free[i], begin = begin, begin + free[i]
    for i in range(atoms):
        for n in range(first[i], last[i]):
            receiver = found[n] & who
            edge_index[free[receiver]] = found[n] - receiver + i
            free[receiver] += 1
    begin = 0
    for i in range(atoms):
        for e in range(begin, free[i]):
            sender, image = edge_index[e] & who, edge_index[e] >> atom_bits
            edge_index[e], edge_index[edges + e] = sender, i
            offsets[3 * e] = (image >> 2 * image_bits) - zero + shift[3 * i] - shift[3 * sender]
            offsets[3 * e + 1] = (image >> image_bits & which) - zero + shift[3 * i + 1] - shift[3 * sender + 1]
            offsets[3 * e + 2] = (image & which) - zero + shift[3 * i + 2] - shift[3 * sender + 2]
        begin = free[i]
