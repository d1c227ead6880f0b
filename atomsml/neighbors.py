"""Neighbour lists: neighbor_list(), one door to several backends that all return the same list.

The door checks the input, wraps every atom into its cell, asks a backend for candidate pairs, then applies the one
cutoff test and the one order. A backend therefore only has to find every pair; it may find a few too many.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.geometry import complete_cell, volume, wrap


@dataclass(frozen=True)
class WrappedAtoms:
    """What a backend searches: float64, wrapped along periodic axes, no singular cell."""

    positions: Tensor  # (atoms, 3)
    cell: Tensor  # (systems, 3, 3); open axes hold unit vectors orthogonal to the periodic ones
    pbc: Tensor  # (systems, 3)
    batch: Tensor  # (atoms,) ascending
    reach: float  # A: a little more than the cutoff, so that rounding loses no pair


Pairs = tuple[Tensor, Tensor, Tensor]  # receiver (pairs,), sender (pairs,), image of the sender (pairs, 3), all int64


def neighbor_list(
    positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, batch: Tensor, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """All pairs of atoms with |positions[sender] + cell_offsets @ cell - positions[receiver]| < cutoff.

    Every pair is listed in both directions; an atom neighbours its own periodic images but not itself. Atoms may lie
    anywhere, also far outside their cell. Vectors of open axes are ignored and may be zero. The search runs in float64
    and no gradients flow through it.

    Args:
        positions: (atoms, 3) A.
        cell: (systems, 3, 3) A, rows are lattice vectors, of either handedness.
        pbc: (systems, 3) bool, per axis.
        cutoff: A.
        batch: (atoms,) system of each atom, ascending; a system may be empty.
        backend: "vesin" searches system by system on the host; "torch" searches the whole batch at once on the device
            of `positions`; "torch-cluster" serves open systems only; "auto" takes "torch" on GPUs, otherwise "vesin".

    Returns:
        edge_index (2, edges) int64, row 0 sender (neighbour), row 1 receiver (centre), and cell_offsets (edges, 3)
        int64; sorted by receiver, then sender, then offset, the same for every backend.

    Raises:
        ValueError: wrong shapes, positions or cells that are not finite, a cutoff that is not positive, `batch` not
            ascending, a periodic axis in a singular cell, an unknown or unsuitable backend.
        ImportError: torch-cluster is asked for but not installed.
    """
    _check(positions, cell, pbc, cutoff, batch)
    device = positions.device
    if backend == "auto":
        backend = "torch" if device.type in ("cuda", "xpu") else "vesin"
    if backend not in _SEARCHES:
        raise ValueError(f"unknown neighbour-list backend {backend!r}; choose auto, {', '.join(_SEARCHES)}")
    searched_on = torch.device("cpu") if backend == "vesin" else device
    positions, cell = (x.detach().to(searched_on, torch.float64) for x in (positions, cell))
    pbc, batch = pbc.to(searched_on), batch.to(searched_on)

    lattice = complete_cell(torch.where(pbc[..., None], cell, 0))
    _check_lattice(cell, lattice, pbc)
    wrapped, shifts = wrap(positions, lattice, pbc, batch)
    atoms = WrappedAtoms(wrapped, lattice, pbc, batch, reach=cutoff * (1 + 1e-9))
    receiver, sender, image = _select_and_sort(_SEARCHES[backend](atoms), atoms, cutoff)
    offsets = image + shifts[receiver] - shifts[sender]
    return torch.stack([sender, receiver]).to(device), offsets.to(device)


def _select_and_sort(pairs: Pairs, atoms: WrappedAtoms, cutoff: float) -> Pairs:
    """Keep pairs within the cutoff and order them by receiver, sender and image."""
    receiver, sender, image = pairs
    # subtract before adding the image: then a pair and its reverse round alike, and both stay or both go
    vectors = atoms.positions[sender] - atoms.positions[receiver]
    vectors += torch.einsum("ei,eij->ej", image.double(), atoms.cell[atoms.batch[receiver]])
    inside = vectors.square().sum(dim=1) < cutoff**2
    receiver, sender, image = receiver[inside], sender[inside], image[inside]
    if len(receiver) == 0:
        return receiver, sender, image
    order = receiver * len(atoms.positions) + sender
    for axis in image.unbind(dim=1):
        order = order * (axis.max() - axis.min() + 1) + (axis - axis.min())
    order = order.argsort()
    return receiver[order], sender[order], image[order]


def _search_vesin(atoms: WrappedAtoms) -> Pairs:
    from vesin import NeighborList

    search = NeighborList(cutoff=atoms.reach, full_list=True)
    positions, cell, pbc = atoms.positions.numpy(), atoms.cell.numpy(), atoms.pbc.numpy()
    ends = np.bincount(atoms.batch.numpy(), minlength=len(cell)).cumsum()
    pairs, images = [np.empty((0, 2), np.int64)], [np.empty((0, 3), np.int64)]
    for system, (start, end) in enumerate(zip(np.r_[0, ends], ends, strict=False)):
        if end > start:
            P, S = search.compute(positions[start:end], cell[system], pbc[system], quantities="PS", copy=True)
            pairs.append(P.astype(np.int64) + start)
            images.append(S.astype(np.int64))
    receiver, sender = torch.from_numpy(np.concatenate(pairs)).unbind(dim=1)
    return receiver, sender, torch.from_numpy(np.concatenate(images))


_SEARCHES: dict[str, Callable[[WrappedAtoms], Pairs]] = {"vesin": _search_vesin}


def _check(positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, batch: Tensor) -> None:
    atoms, systems = len(positions), len(cell)
    expected = {"positions": (atoms, 3), "cell": (systems, 3, 3), "pbc": (systems, 3), "batch": (atoms,)}
    for (name, shape), x in zip(expected.items(), (positions, cell, pbc, batch), strict=True):
        if tuple(x.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
    if pbc.dtype != torch.bool:
        raise ValueError(f"pbc must be boolean, got {pbc.dtype}")
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"cutoff must be positive and finite, got {cutoff} A")
    if atoms and ((batch[1:] < batch[:-1]).any() or batch[0] < 0 or batch[-1] >= systems):
        raise ValueError(f"batch must be ascending and lie in 0..{systems - 1}")
    finite = positions.isfinite().all(dim=1)
    if not finite.all():
        atom = int((~finite).nonzero()[0])
        raise ValueError(f"positions of atom {atom} are not finite: {positions[atom].tolist()}")
    finite = cell.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        system = int((~finite).nonzero()[0])
        raise ValueError(f"the cell of system {system} is not finite: {cell[system].tolist()}")


def _check_lattice(cell: Tensor, lattice: Tensor, pbc: Tensor) -> None:
    missing = pbc & (cell == 0).all(dim=-1)
    # volume of the cell whose vectors have length 1: independent of units and aspect ratio
    shape = volume(lattice / torch.linalg.vector_norm(lattice, dim=-1, keepdim=True))
    wrong = missing.any(dim=1) | ~(shape > 1e-8)
    if wrong.any():
        system = int(wrong.nonzero()[0])
        axes = " and ".join(name for name, periodic in zip("abc", pbc[system].tolist(), strict=True) if periodic)
        raise ValueError(
            f"system {system} is periodic along {axes} but its cell vectors are singular (volume 0); "
            "give a full cell or set pbc to False"
        )
