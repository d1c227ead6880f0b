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
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomsml.codegen.loops import Floats, Ints, compiled
from atomsml.geometry import ImpossibleGeometry
from atomsml.graph import AtomicGraph
from atomsml.units import BOHR

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

LANES = 8  # atoms of a block: their sums are made side by side, in vectors
BIN = 10.0  # bohr: some eight atoms of a solid are in a cube of this length
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
        positions, cell, pbc, batch, counts = (
            x.detach().numpy() for x in (graph.positions, graph.cell, graph.pbc, graph.batch, graph.atoms_per_system)
        )
        if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            raise ImpossibleGeometry("D3 needs positions and cells that are finite")
        axes, rows = _triangular(cell, pbc)
        positions = (positions[:, None] @ axes.swapaxes(1, 2)[batch])[:, 0] / BOHR
        positions = _wrapped(positions, rows, batch)
        steps = rows.diagonal(axis1=1, axis2=2)
        per_step = np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)
        elements, kind = np.unique(graph.numbers.numpy(), return_inverse=True)
        order = _in_blocks(positions, batch)
        block, first_of_block, centre, radius, local = _blocks(positions[order], counts)
        return Turned(
            order=_tensor(order),
            positions=_tensor(positions[order]),
            lattice=_tensor(np.concatenate([rows[:, *np.tril_indices(3)], per_step], axis=1)),
            axes=_tensor(axes),
            system=graph.batch.contiguous(),
            first=_tensor(np.append(0, counts.cumsum())),
            kind=_tensor(kind.astype(np.int64)[order]),
            block=_tensor(block),
            first_of_block=_tensor(first_of_block),
            centre=_tensor(centre),
            radius=_tensor(radius),
            local=_tensor(local),
            elements=tuple(elements.tolist()),
        )

    def most_images(self, cutoff: float) -> int:
        """Of an atom within a cutoff (bohr) of another, at most.

        Raises:
            ImpossibleGeometry: more than MOST_IMAGES, as a cell in the wrong unit has.
        """
        per_step = self.lattice[:, 6:].numpy()
        reach = cutoff + self.radius.numpy().max(initial=0.0)
        counts = np.where(per_step > 0, np.floor(2 * reach * per_step) + 2, 1.0)
        most = int(counts.prod(axis=1).max(initial=1))
        if most > MOST_IMAGES:
            raise ImpossibleGeometry(f"an atom has {most:.0e} images within {reach:.0f} bohr; is the cell in Angstrom?")
        return most


def _tensor(x: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


def _triangular(cell: Array, pbc: NDArray[np.bool_]) -> tuple[Array, Array]:
    """(systems, 3, 3) axes of the lattices, and lattice vectors (rows, bohr) in these; those of open axes are 0."""
    lengths = np.linalg.norm(cell, axis=2)
    order = np.where(pbc, lengths, np.inf).argsort(axis=1, kind="stable")  # short ones are counted last
    vectors = np.take_along_axis(np.where(pbc[:, :, None], cell, 0.0), order[:, :, None], axis=1)
    turn, triangle = np.linalg.qr(vectors.swapaxes(1, 2))
    # QR leaves signs open; diagonals of periodic axes are positive here
    diagonal = triangle.diagonal(axis1=1, axis2=2)
    sign = np.where(diagonal < 0, -1.0, 1.0)[:, :, None]
    thin = np.abs(diagonal) <= 1e-8 * np.take_along_axis(lengths, order, axis=1)
    if np.any(thin & np.take_along_axis(pbc, order, axis=1)):
        raise ImpossibleGeometry("D3 needs periodic cells with a volume")
    return turn.swapaxes(1, 2) * sign, (triangle * sign).swapaxes(1, 2) / BOHR


def _wrapped(positions: Array, rows: Array, batch: Integers) -> Array:
    """In their cells along periodic axes: one vector after the other, as the triangle of the lattice allows."""
    for k in (2, 1, 0):
        vector = rows[batch, k]
        length = vector[:, k]
        steps = np.floor(np.divide(positions[:, k], length, out=np.zeros_like(length), where=length > 0))
        positions = positions - steps[:, None] * vector
    return positions


def _in_blocks(positions: Array, batch: Integers) -> Integers:
    """(atoms,) an order in which atoms that follow each other are near, in the same order of systems."""
    x, y, z = np.floor(positions / BIN).T
    return np.lexsort([x, y, z, batch])


def _blocks(positions: Array, counts: Integers) -> tuple[Integers, Integers, Array, Array, Array]:
    """Of atoms in order: block, first_of_block, centre, radius, local."""
    of_system = (counts + LANES - 1) // LANES
    system = np.repeat(np.arange(len(counts)), of_system)
    number = np.arange(len(system)) - (of_system.cumsum() - of_system)[system]  # of each block in its system
    first = (counts.cumsum() - counts)[system] + LANES * number
    sizes = np.diff(np.append(first, len(positions)))
    block = np.repeat(np.arange(len(first)), sizes)
    centre = np.add.reduceat(positions, first, axis=0) / sizes[:, None]
    apart = positions - centre[block]
    radius = np.maximum.reduceat(np.linalg.norm(apart, axis=1), first)
    local = np.full((len(first), 3, LANES), FAR)
    local[block, :, np.arange(len(positions)) - first[block]] = apart
    return block, np.append(first, len(positions)), centre, radius * (1 + 1e-12), local


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
