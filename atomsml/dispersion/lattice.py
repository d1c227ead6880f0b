"""Periodic images within a sphere, one after the other and no others, without a list of them.

Each system is turned into axes in which its lattice vectors are c = (c1, 0, 0), b = (b1, b2, 0) and a = (a1, a2, a3).
The image n_a, n_b, n_c of an atom is then within a cutoff only if |z + n_a a3| is, which bounds n_a; given n_a, y and
z tell it for n_b; given both, x, y and z tell it for n_c. So enumerate U. Fincke and M. Pohst, Math. Comput. 44, 463
(1985), the vectors of a lattice. It holds for the most oblique cells and for atoms far outside them. Open axes come
last among the vectors, with zeros on the diagonal: their atoms have one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atomsml.codegen.loops import Floats, Ints, compiled
from atomsml.geometry import ImpossibleGeometry
from atomsml.graph import AtomicGraph
from atomsml.units import BOHR

LANES = 16  # atoms of a block: their sums are made side by side, in vectors
BIN = 13.0  # bohr: some twelve atoms of a solid are in a cube of this length
MOST_IMAGES = 3_000_000  # of an atom: a cell of 0.1 A^3 has as many
FAR = 1e6  # bohr, beyond all cutoffs


class Atoms(NamedTuple):
    """Addresses of what all sums are told, lengths in bohr; see `Turned`."""

    positions: Floats
    lattice: Floats
    system: Ints
    first: Ints
    kind: Ints
    block: Ints
    first_of_block: Ints
    centre: Floats
    radius: Floats
    local: Floats
    atoms: int
    kinds: int


@dataclass(frozen=True, eq=False)
class Turned:
    """A batch of systems in axes of their lattices, in bohr, on the CPU; atoms in blocks of LANES that are near."""

    order: Tensor  # (atoms,) which atom of the graph stands where
    positions: Tensor  # (atoms, 3)
    lattice: Tensor  # (systems, 9): c1, b1, b2, a1, a2, a3, and 1 / c1, 1 / b2, 1 / a3, which are 0 of open axes
    axes: Tensor  # (systems, 3, 3): positions @ axes are Cartesian
    system: Tensor  # (atoms,)
    first: Tensor  # (systems + 1,) where the atoms of a system begin
    kind: Tensor  # (atoms,) places of their elements in `elements`
    block: Tensor  # (atoms,) in which block each is
    first_of_block: Tensor  # (blocks + 1,) where the atoms of a block begin
    centre: Tensor  # (blocks, 3)
    radius: Tensor  # (blocks,) how far atoms are from the centre
    local: Tensor  # (blocks, 3, LANES) positions from the centre; of no atom FAR
    elements: tuple[int, ...]  # atomic numbers, ascending

    @staticmethod
    def of(graph: AtomicGraph) -> Turned:
        """Raises ImpossibleGeometry where a number is not finite, or a periodic cell is singular."""
        graph = graph.to("cpu", torch.float64)
        if not (graph.positions.isfinite().all() and graph.cell.isfinite().all()):
            raise ImpossibleGeometry("D3 needs positions and cells that are finite")
        lengths = torch.linalg.vector_norm(graph.cell, dim=2)
        order = torch.where(graph.pbc, lengths, torch.inf).argsort(dim=1, stable=True)  # short ones are counted last
        vectors = torch.where(graph.pbc[:, :, None], graph.cell, 0.0).gather(1, order[:, :, None].expand(-1, -1, 3))
        turn, triangle = torch.linalg.qr(vectors.mT)
        # QR leaves signs open; diagonals of periodic axes are positive here
        diagonal = triangle.diagonal(dim1=1, dim2=2)
        sign = torch.where(diagonal < 0, -1.0, 1.0)
        axes, rows = turn.mT * sign[:, :, None], (triangle * sign[:, :, None]).mT / BOHR
        thin = graph.pbc.gather(1, order) & (diagonal.abs() <= 1e-8 * lengths.gather(1, order))
        if thin.any():
            raise ImpossibleGeometry("D3 needs periodic cells with a volume")
        positions = torch.bmm(graph.positions[:, None], axes.mT[graph.batch])[:, 0] / BOHR
        if graph.pbc.any():
            positions = _wrapped(positions, rows, graph.batch)
        steps = rows.diagonal(dim1=1, dim2=2)
        lattice = [rows[:, i, : i + 1] for i in range(3)] + [torch.where(steps > 0, 1 / steps, 0.0)]
        elements, kind = np.unique(graph.numbers.numpy(), return_inverse=True)
        near = _in_blocks(positions, graph.batch)
        counts = graph.atoms_per_system.cumsum(0)
        block, first_of_block, centre, radius, local = _blocks(positions[near], graph.batch, graph.atoms_per_system)
        return Turned(
            order=near,
            positions=positions[near],
            lattice=torch.cat(lattice, dim=1),
            axes=axes.contiguous(),
            system=graph.batch.contiguous(),
            first=torch.cat([counts.new_zeros(1), counts]),
            kind=torch.from_numpy(kind.astype(np.int64))[near],
            block=block,
            first_of_block=first_of_block,
            centre=centre,
            radius=radius,
            local=local,
            elements=tuple(elements.tolist()),
        )

    def most_images(self, cutoff: float) -> int:
        """Of an atom within a cutoff (bohr) of another, at most.

        Raises:
            ImpossibleGeometry: more than MOST_IMAGES, as a cell in the wrong unit has.
        """
        per_step = self.lattice[:, 6:]
        reach = cutoff + (float(self.radius.max()) if len(self.radius) else 0.0)
        counts = torch.where(per_step > 0, (2 * reach * per_step).floor() + 2, 1.0)
        most = int(counts.prod(dim=1).max()) if len(counts) else 1
        if most > MOST_IMAGES:
            raise ImpossibleGeometry(f"an atom has {most:.0e} images within {reach:.0f} bohr; is the cell in Angstrom?")
        return most


def _wrapped(positions: Tensor, rows: Tensor, batch: Tensor) -> Tensor:
    """In their cells along periodic axes: one vector after the other, as the triangle of the lattice allows."""
    for k in (2, 1, 0):
        vector = rows[batch, k]
        steps = torch.where(vector[:, k] > 0, (positions[:, k] / vector[:, k]).floor(), 0.0)
        positions = positions - steps[:, None] * vector
    return positions


def _in_blocks(positions: Tensor, batch: Tensor) -> Tensor:
    """(atoms,) an order in which atoms that follow each other are near, in the same order of systems."""
    x, y, z = (positions / BIN).floor().unbind(dim=1)
    keys = [batch.numpy(), z.numpy(), y.numpy(), x.numpy()]
    return torch.from_numpy(np.lexsort(keys[::-1]))


def _blocks(positions: Tensor, batch: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of atoms in order: block, first_of_block, centre, radius, local."""
    before = (counts.cumsum(0) - counts)[batch]
    of_system = (counts + LANES - 1) // LANES
    place = torch.arange(len(batch)) - before
    block = (of_system.cumsum(0) - of_system)[batch] + place // LANES
    blocks = int(of_system.sum())
    sizes = torch.bincount(block, minlength=blocks)
    centre = torch.zeros(blocks, 3, dtype=torch.float64).index_add(0, block, positions) / sizes[:, None]
    apart = positions - centre[block]
    radius = torch.zeros(blocks, dtype=torch.float64)
    radius.scatter_reduce_(0, block, torch.linalg.vector_norm(apart, dim=1), "amax")
    local = torch.full((blocks, 3, LANES), FAR, dtype=torch.float64)
    local[block, :, place % LANES] = apart
    return block, torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), centre, radius * (1 + 1e-12), local


@compiled
def images(w: Atoms, system: int, x: float, y: float, z: float, cutoff: float, found: Floats) -> int:
    """Write x, y, z and squared length of all images of a vector within a cutoff; returns how many there are."""
    s = 9 * system
    count = 0
    for a in range(lowest(z, w.lattice[s + 8], cutoff), highest(z, w.lattice[s + 8], cutoff) + 1):
        za, ya, xa = z + a * w.lattice[s + 5], y + a * w.lattice[s + 4], x + a * w.lattice[s + 3]
        room_y = sqrt(max(0.0, cutoff * cutoff - za * za))
        for b in range(lowest(ya, w.lattice[s + 7], room_y), highest(ya, w.lattice[s + 7], room_y) + 1):
            yb, xb = ya + b * w.lattice[s + 2], xa + b * w.lattice[s + 1]
            square = za * za + yb * yb
            room_x = sqrt(max(0.0, cutoff * cutoff - square))
            for c in range(lowest(xb, w.lattice[s + 6], room_x), highest(xb, w.lattice[s + 6], room_x) + 1):
                xc = xb + c * w.lattice[s]
                found[4 * count], found[4 * count + 1], found[4 * count + 2] = xc, yb, za
                found[4 * count + 3] = square + xc * xc
                # the next one takes its place unless this one is near: no branch
                count += square + xc * xc <= cutoff * cutoff
    return count


@compiled
def images_of_block(w: Atoms, i: int, block: int, cutoff: float, found: Floats) -> int:
    """The same of the vector from atom i to the centre of a block, as far as atoms of the block may be within."""
    x = w.centre[3 * block] - w.positions[3 * i]
    y = w.centre[3 * block + 1] - w.positions[3 * i + 1]
    z = w.centre[3 * block + 2] - w.positions[3 * i + 2]
    return images(w, w.system[i], x, y, z, cutoff + w.radius[block], found)


@compiled
def lowest(x: float, per_step: float, room: float) -> int:
    """The first image n for which x + n step is within the room; along an open axis per_step is 0, and so is n."""
    return ceil((-room - x) * per_step)


@compiled
def highest(x: float, per_step: float, room: float) -> int:
    return floor((room - x) * per_step)
