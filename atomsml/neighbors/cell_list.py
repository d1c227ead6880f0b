"""A cell list in plain torch: all systems of a batch at once, on any device, without a loop over systems.

Space is cut into bins about as wide as the cutoff, so that the neighbours of an atom lie in its own bin or in the few
around it (Quentrec and Brot, J. Comput. Phys. 13, 430 (1973)). Only occupied bins are kept, as a sorted list of keys:
two atoms 1e6 A apart cost two bins. Where a periodic cell is smaller than the cutoff, the bins around include periodic
images of the bin itself. Ragged loops ("for every bin, for every bin around it, for every atom in it") are flattened
by `ragged_arange`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.geometry import to_cartesian
from atomsml.neighbors.bins import MOST_NEIGHBORS
from atomsml.neighbors.host import crowded

MAX_KEY = 2**62  # bin keys of all systems together must fit an int64
CHUNK_CPU, CHUNK_GPU = 2**17, 2**24  # candidate pairs at once: in the caches of a CPU, in the memory of a GPU


@dataclass(frozen=True)
class Bins:
    """The occupied bins of a batch, and the atoms sorted by bin."""

    order: Tensor  # (atoms,) atoms in the order of their bins
    start: Tensor  # (bins + 1,) first atom of each bin, in that order
    key: Tensor  # (bins,) ascending
    system: Tensor  # (bins,)
    place: Tensor  # (bins, 3) integer coordinates of the bin in its system
    grid: Tensor  # (systems, 3) number of bins along each axis
    first_key: Tensor  # (systems,) key of the bin (0, 0, 0)
    around: Tensor  # (systems, 3) bins to look at on either side

    def key_of(self, system: Tensor, place: Tensor) -> Tensor:
        return self.first_key[system] + _ravel(place, self.grid[system])


@dataclass(frozen=True)
class BinPairs:
    """Pairs of bins between whose atoms neighbours are sought."""

    start: Tensor  # (bins + 1,) as in Bins
    left: Tensor  # (pairs,)
    right: Tensor  # (pairs,)
    image: Tensor  # (pairs, 3) periodic image of the right bin
    translation: Tensor  # (3, pairs) the same in A


def find_pairs(
    positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor, cutoff: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of atoms closer than `cutoff` once, in either direction.

    Args:
        positions: (atoms, 3), wrapped along periodic axes.
        cell: (systems, 3, 3), not singular; the vectors of open axes have length 1 and are orthogonal to the others.

    Returns:
        receiver (pairs,), sender (pairs,), image of the sender (pairs, 3), int64, in no particular order.

    Raises:
        ImpossibleGeometry: more than MOST_NEIGHBORS of an atom on average.
    """
    if len(positions) == 0:
        return batch, batch, batch.new_zeros(0, 3)
    bins = _sort_into_bins(positions, cell, pbc, batch, cutoff)
    left, right, image = _bins_around(bins, pbc)
    translation = to_cartesian(image.to(cell.dtype), cell, bins.system[left]).T
    coordinates = positions[bins.order].T.contiguous()  # (3, atoms): torch is several times faster along rows
    start = bins.start.int()  # half the memory, where memory is what takes the time
    size = bins.start.diff()
    if 4 * int(size.max()) > MOST_NEIGHBORS:  # a ball is four times the cube of its radius
        raise crowded(cutoff)
    chunk_size = CHUNK_CPU if positions.device.type == "cpu" else CHUNK_GPU
    found, count = [], 0
    for part in _chunks(size[left] * size[right], chunk_size):
        pairs = BinPairs(start, left[part], right[part], image[part], translation[:, part])
        first, second, row = _close_atoms(coordinates, pairs, cutoff)
        count += len(first)
        if 2 * count > MOST_NEIGHBORS * len(positions):  # before they fill the memory
            raise crowded(cutoff)
        found.append([x.index_select(0, i) for x, i in ((bins.order, first), (bins.order, second), (pairs.image, row))])
    receiver, sender, images = zip(*found, strict=True)
    return torch.cat(receiver), torch.cat(sender), torch.cat(images)


def _sort_into_bins(positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor, cutoff: float) -> Bins:
    reciprocal = torch.linalg.inv(cell)  # columns are reciprocal vectors, without the 2 pi
    coordinates = torch.bmm(positions[:, None], reciprocal[batch])[:, 0]  # fractional; A along open axes
    index = batch[:, None].expand(-1, 3)
    lowest = torch.zeros_like(cell[:, 0]).scatter_reduce(0, index, coordinates, "amin", include_self=False)
    highest = torch.zeros_like(cell[:, 0]).scatter_reduce(0, index, coordinates, "amax", include_self=False)
    origin = torch.where(pbc, 0, lowest)
    length = torch.where(pbc, 1, (highest - lowest).clamp(min=cutoff))
    width = length / torch.linalg.vector_norm(reciprocal, dim=1)  # A, between the two faces of the grid
    reach = cutoff * (1 + 1e-6)  # rounded coordinates must not put a neighbour one bin too far
    grid_max = int((MAX_KEY // len(cell)) ** (1 / 3))  # wider bins only cost time
    grid = (width / reach).floor().clamp(1, grid_max)
    around = (reach * grid / width).ceil()
    around = torch.where(pbc, around, around.minimum(grid - 1)).long()

    place = ((coordinates - origin[batch]) / length[batch] * grid[batch]).floor().long()
    grid = grid.long()
    place = place.clamp(min=0).minimum(grid[batch] - 1)  # rounding may put an atom just outside

    total = grid.prod(dim=1)
    first_key = total.cumsum(0) - total
    key, order = (first_key[batch] + _ravel(place, grid[batch])).sort(stable=True)
    key, size = key.unique_consecutive(return_counts=True)
    start = torch.cat([size.new_zeros(1), size.cumsum(0)])
    some_atom = order[start[:-1]]
    return Bins(order, start, key, batch[some_atom], place[some_atom], grid, first_key, around)


def _bins_around(bins: Bins, pbc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of occupied bins that may hold neighbours, each once: left, right (pairs,), image of the right one.

    Of the offsets d and -d only the one that comes later in lexicographic order is visited; d = 0 is a bin with itself.
    """
    shape = 2 * bins.around + 1  # (systems, 3)
    centre = shape.prod(dim=1) // 2  # position of d = 0 among all offsets in lexicographic order
    left, later = ragged_arange((centre + 1)[bins.system])
    system = bins.system[left]
    offset = _unravel(later + centre[system], shape[system]) - bins.around[system]
    place = bins.place[left] + offset
    grid = bins.grid[system]
    image = place.div(grid, rounding_mode="floor")
    exists = (pbc[system] | (image == 0)).all(dim=1)
    left, system, place, grid, image = (x[exists] for x in (left, system, place, grid, image))
    wanted = bins.key_of(system, place - image * grid)
    right = torch.searchsorted(bins.key, wanted).clamp(max=len(bins.key) - 1)
    occupied = bins.key[right] == wanted
    return left[occupied], right[occupied], image[occupied]


def _close_atoms(coordinates: Tensor, pairs: BinPairs, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of atoms closer than `cutoff`, one from each bin: first, second, and the pair of bins they came from."""
    row, first = ragged_arange(pairs.start.diff()[pairs.left])
    first = first + pairs.start[pairs.left].index_select(0, row)
    end = pairs.start[pairs.right + 1].index_select(0, row)
    begin = pairs.start[pairs.right].index_select(0, row)
    same = (pairs.left == pairs.right) & (pairs.image == 0).all(dim=1)
    begin = torch.where(same.index_select(0, row), first + 1, begin)  # within a bin, each pair once
    line, second = ragged_arange(end - begin)
    second += begin.index_select(0, line)

    distance2 = torch.zeros(len(second), dtype=coordinates.dtype, device=coordinates.device)
    for x, shift in zip(coordinates, pairs.translation, strict=True):
        origin = x.index_select(0, first) - shift.index_select(0, row)
        difference = x.index_select(0, second) - origin.index_select(0, line)
        distance2.addcmul_(difference, difference)
    close = _where(distance2 < cutoff**2)
    line, second = line.index_select(0, close), second.index_select(0, close)
    return first.index_select(0, line), second, row.index_select(0, line)


def _where(condition: Tensor) -> Tensor:
    """Places at which a condition holds; numpy finds them ten times faster than torch on a CPU."""
    if condition.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(condition.numpy()))
    return condition.nonzero()[:, 0]


def ragged_arange(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate arange(n) for every n in `sizes`: (row, value) of each entry.

    >>> ragged_arange(torch.tensor([2, 0, 3]))
    (tensor([0, 0, 2, 2, 2]), tensor([0, 1, 0, 1, 2]))
    """
    ends = sizes.cumsum(0, dtype=sizes.dtype)
    row = torch.repeat_interleave(sizes)
    return row, torch.arange(len(row), dtype=sizes.dtype, device=sizes.device) - (ends - sizes).index_select(0, row)


def _chunks(sizes: Tensor, limit: int) -> Iterator[slice]:
    """Cut rows into consecutive slices whose sizes sum to about `limit`, or to one row where that alone is more."""
    ends = sizes.cumsum(0)
    cuts = torch.searchsorted(ends, torch.arange(0, int(ends[-1]), limit, device=ends.device)).unique().tolist()
    for begin, end in zip(cuts, [*cuts[1:], len(sizes)], strict=True):
        yield slice(begin, end)


def _ravel(place: Tensor, shape: Tensor) -> Tensor:
    return (place[:, 0] * shape[:, 1] + place[:, 1]) * shape[:, 2] + place[:, 2]


def _unravel(index: Tensor, shape: Tensor) -> Tensor:
    x, rest = index // (shape[:, 1] * shape[:, 2]), index % (shape[:, 1] * shape[:, 2])
    return torch.stack([x, rest // shape[:, 2], rest % shape[:, 2]], dim=1)
