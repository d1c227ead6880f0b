"""Neighbour lists: neighbor_list(), one door to several backends that all return the same list.

On a CPU compiled loops do everything. For the other backends the door checks the input, wraps every atom into its cell,
lets the backend find each pair once, then lists it in both directions in one fixed order. Such a backend therefore
never sees an atom outside its cell, a singular cell or float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.device import has_float64
from atomsml.geometry import ImpossibleGeometry, periodic_lattice, volume, wrap
from atomsml.neighbors.bins import MOST_IMAGES, MOST_NEIGHBORS
from atomsml.neighbors.cell_list import find_pairs
from atomsml.neighbors.host import crowded, find_edges

# Backends search within cutoff * (1 - TIE): a shell of an ideal crystal exactly at the cutoff is then beyond it for
# all of them, whichever way their sums round.
TIE = 1e-9


@dataclass(frozen=True)
class WrappedAtoms:
    """What a backend searches, float64."""

    positions: Tensor  # (atoms, 3) inside the cell along periodic axes
    cell: Tensor  # (systems, 3, 3) not singular; open axes hold unit vectors orthogonal to the periodic ones
    pbc: Tensor  # (systems, 3)
    batch: Tensor  # (atoms,) ascending
    cutoff: float  # A


Pairs = tuple[Tensor, Tensor, Tensor]  # receiver (pairs,), sender (pairs,), image of the sender (pairs, 3), all int64


def neighbor_list(
    positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, batch: Tensor, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """All pairs of atoms with |positions[sender] + cell_offsets @ cell - positions[receiver]| < cutoff.

        >>> import torch
        >>> from atomsml.neighbors import neighbor_list
        >>> positions, pbc = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]), torch.tensor([[False, False, True]])
        >>> edge_index, offsets = neighbor_list(positions, 5 * torch.eye(3)[None], pbc, 3.5, torch.tensor([0, 0]))
        >>> edge_index.tolist(), offsets[:, 2].tolist()  # the other atom here, and in the next cell
        ([[1, 1, 0, 0], [0, 0, 1, 1]], [-1, 0, 0, 1])

    Every pair is listed in both directions; an atom neighbours its own periodic images but not itself. Atoms may lie
    anywhere, also far outside their cell. Vectors of open axes are ignored and may be zero. The search runs in float64
    and no gradients flow through it.

    Args:
        positions: (atoms, 3) A.
        cell: (systems, 3, 3) A, rows are lattice vectors, of either handedness.
        pbc: (systems, 3) bool, per axis.
        cutoff: A.
        batch: (atoms,) system of each atom, ascending; a system may be empty.
        backend: "cpu" and "torch" search the whole batch at once, in compiled loops on the host and on the device of
            `positions`; "vesin" searches system by system on the host; "torch-cluster" serves open systems only; "auto"
            takes "torch" on GPUs, otherwise "cpu". Where a device has no float64, the host searches.

    Returns:
        edge_index (2, edges) int64, row 0 sender (neighbour), row 1 receiver (centre), and cell_offsets (edges, 3)
        int64; sorted by receiver, then sender, then offset, the same for every backend.

    Raises:
        ValueError: wrong shapes, a cutoff that is not positive, `batch` not ascending, an unknown backend, or one that
            cannot serve these systems.
        ImpossibleGeometry: positions or cells that are not finite, a periodic axis in a singular cell, or more than
            20,000 neighbours of an atom, as a cell in the wrong unit has them.
        ImportError: vesin or torch-cluster is asked for but not installed.
    """
    _check_shapes(positions, cell, pbc, cutoff, batch)
    if backend == "auto":
        backend = "torch" if searches(positions.device) else "cpu"
    if backend == "cpu":
        double = on_host(positions, torch.float64), on_host(cell, torch.float64)
        edges = find_edges(*double, on_host(pbc, torch.bool), cutoff * (1 - TIE), on_host(batch, torch.int64))
        if edges is not None:
            return edges if positions.is_cpu else (edges[0].to(positions.device), edges[1].to(positions.device))
        backend = "torch"  # which says what is wrong
    if backend not in _SEARCHES:
        raise ValueError(f"unknown neighbour-list backend {backend!r}; choose one of auto, cpu, {', '.join(_SEARCHES)}")
    _check_numbers(positions, cell, batch)
    device = positions.device if backend != "vesin" and has_float64(positions.device) else torch.device("cpu")
    positions64, cell64 = (x.detach().to(device).double() for x in (positions, cell))
    pbc, batch = pbc.to(device), batch.to(device, torch.int64)

    lattice = periodic_lattice(cell64, pbc)
    _check_lattice(cell64, lattice, pbc)
    _check_images(lattice, pbc, cutoff)
    wrapped, shifts = wrap(positions64, lattice, pbc, batch)
    pairs = _SEARCHES[backend](WrappedAtoms(wrapped, lattice, pbc, batch, cutoff * (1 - TIE)))
    receiver, sender, offsets = _mirror_and_sort(pairs, len(wrapped))
    if len(receiver) and int(torch.bincount(receiver).max()) > MOST_NEIGHBORS:
        raise crowded(cutoff)
    if shifts.any():
        offsets = offsets + shifts.index_select(0, receiver) - shifts.index_select(0, sender)
    return torch.stack([sender, receiver]).to(positions.device), offsets.to(positions.device)


def searches(device: torch.device) -> bool:
    """Whether a device searches its neighbours itself; for the others the host does."""
    return device.type in ("cuda", "xpu")


def on_host(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Contiguous, on the CPU; asking costs less than doing it again, which a molecule would notice.

    First the copy, then the type: in one step a device would convert, and MPS has no float64.
    """
    return x if x.is_cpu and x.dtype == dtype and x.is_contiguous() else x.detach().cpu().to(dtype).contiguous()


def _mirror_and_sort(pairs: Pairs, num_atoms: int) -> Pairs:
    """List every pair in both directions, ordered by receiver, sender and image.

    An edge is packed into the bits of one int64, so that sorting is one pass over plain numbers.
    """
    receiver, sender, image = pairs
    largest = int(image.abs().max()) if len(image) else 0
    image_bits, atom_bits = (2 * largest).bit_length(), num_atoms.bit_length()
    if 3 * image_bits + 2 * atom_bits > 63:
        raise ValueError(
            f"{num_atoms} atoms with up to {largest} periodic images per axis are too many for one neighbour list; "
            "split the batch, or give larger cells or a smaller cutoff"
        )

    def pack(receiver: Tensor, sender: Tensor, image: Tensor) -> Tensor:
        key = receiver << atom_bits | sender
        for axis in (image + largest).unbind(dim=1):
            key = key << image_bits | axis
        return key

    key = torch.cat([pack(receiver, sender, image), pack(sender, receiver, -image)])
    # numpy's vectorised sort is ten times faster than torch's on a CPU
    key = torch.from_numpy(np.sort(key.numpy())) if key.device.type == "cpu" else key.sort().values
    mask = (1 << image_bits) - 1
    image = torch.stack([key >> k * image_bits & mask for k in (2, 1, 0)], dim=1) - largest
    key = key >> 3 * image_bits
    return key >> atom_bits, key & ((1 << atom_bits) - 1), image


def _search_vesin(atoms: WrappedAtoms) -> Pairs:
    try:
        from vesin import NeighborList
    except ImportError as error:
        raise ImportError('vesin is not installed; run "pip install atomsml[vesin]"') from error
    search = NeighborList(cutoff=atoms.cutoff, full_list=False)
    positions, cell, pbc = atoms.positions.numpy(), atoms.cell.numpy(), atoms.pbc.numpy()
    sizes = np.bincount(atoms.batch.numpy(), minlength=len(cell))
    found, images = [np.empty((0, 2), np.int64)], [np.empty((0, 3), np.int64)]
    for system, (size, end) in enumerate(zip(sizes, sizes.cumsum(), strict=True)):
        if size > 0:
            pairs, image = search.compute(positions[end - size : end], cell[system], pbc[system], quantities="PS")
            found.append(pairs.astype(np.int64) + (end - size))
            images.append(image.astype(np.int64))
    receiver, sender = torch.from_numpy(np.concatenate(found)).unbind(dim=1)
    return receiver, sender, torch.from_numpy(np.concatenate(images))


def _search_torch(atoms: WrappedAtoms) -> Pairs:
    return find_pairs(atoms.positions, atoms.cell, atoms.pbc, atoms.batch, atoms.cutoff)


def _search_torch_cluster(atoms: WrappedAtoms) -> Pairs:
    if atoms.pbc.any():
        raise ValueError('backend "torch-cluster" serves open systems only, but some are periodic; take "torch"')
    try:
        from torch_cluster import radius
    except ImportError as error:
        raise ImportError('torch-cluster is not installed; run "pip install atomsml[cluster]"') from error
    x, batch = atoms.positions, atoms.batch
    limit = 64
    while True:
        receiver, sender = radius(x, x, atoms.cutoff, batch, batch, max_num_neighbors=limit)
        # it stops at the limit without a word: a full atom may have lost neighbours
        if len(receiver) == 0 or int(torch.bincount(receiver).max()) < limit:
            break
        limit *= 2
    once = receiver < sender
    return receiver[once], sender[once], x.new_zeros(int(once.sum()), 3, dtype=torch.int64)


_SEARCHES: dict[str, Callable[[WrappedAtoms], Pairs]] = {
    "vesin": _search_vesin,
    "torch": _search_torch,
    "torch-cluster": _search_torch_cluster,
}


def _check_shapes(positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, batch: Tensor) -> None:
    found = positions.shape, cell.shape, pbc.shape, batch.shape
    atoms, systems = found[0][0], found[1][0]
    expected = (atoms, 3), (systems, 3, 3), (systems, 3), (atoms,)
    if found != expected:
        for name, shape, wanted in zip(("positions", "cell", "pbc", "batch"), found, expected, strict=True):
            if shape != wanted:
                raise ValueError(f"{name} must have shape {wanted}, got {tuple(shape)}")
    if pbc.dtype != torch.bool:
        raise ValueError(f"pbc must be boolean, got {pbc.dtype}")
    if not 0 < cutoff < math.inf:
        raise ValueError(f"cutoff must be positive and finite, got {cutoff} A")


def _check_numbers(positions: Tensor, cell: Tensor, batch: Tensor) -> None:
    atoms, systems = len(positions), len(cell)
    if atoms and ((batch[1:] < batch[:-1]).any() or batch[0] < 0 or batch[-1] >= systems):
        raise ValueError(f"batch must be ascending and name systems 0 to {systems - 1}; sort the atoms by system")
    if not positions.isfinite().all():
        atom = int((~positions.isfinite().all(dim=1)).nonzero()[0])
        raise ImpossibleGeometry(f"the position of atom {atom} is not finite: {positions[atom].tolist()}")
    if not cell.isfinite().all():
        system = int((~cell.isfinite().flatten(1).all(dim=1)).nonzero()[0])
        raise ImpossibleGeometry(f"the cell of system {system} is not finite: {cell[system].tolist()}")


def _check_images(lattice: Tensor, pbc: Tensor, cutoff: float) -> None:
    """Refuse cells so small that each atom has more than MOST_IMAGES in reach."""
    planes = 1 / torch.linalg.vector_norm(torch.linalg.inv(lattice), dim=1)  # A between those of each axis
    images = torch.where(pbc, 2 * (cutoff / planes) + 1, 1.0).prod(dim=1)
    if (images > MOST_IMAGES).any():
        raise crowded(cutoff)


def _check_lattice(cell: Tensor, lattice: Tensor, pbc: Tensor) -> None:
    missing = (pbc & (cell == 0).all(dim=-1)).any(dim=1)
    # the volume that the cell would have if its vectors had length 1: whatever the units and the aspect ratio
    shape = volume(lattice / torch.linalg.vector_norm(lattice, dim=-1, keepdim=True))
    wrong = missing | ~(shape > 1e-8)
    if wrong.any():
        system = int(wrong.nonzero()[0])
        axes = " and ".join(name for name, periodic in zip("abc", pbc[system].tolist(), strict=True) if periodic)
        raise ImpossibleGeometry(
            f"system {system} is periodic along {axes} but its cell vectors are singular (volume 0); "
            "give a full cell or set pbc to False"
        )
