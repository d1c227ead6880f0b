"""Space groups, kept exactly: atoms of an orbit move as their first one does, cells deform as the group allows.

Operations x -> W x + w of fractional coordinates are found by moyopy, with a tolerance; what misses them is mended, by
averages over the group. In Cartesian rows an operation turns v to v R, R = A^-1 W^T A for the cell A.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from moyopy import Cell, MoyoDataset
from numpy.typing import NDArray
from torch import Tensor

from atomsml.simulate.state import Flat, PerAtom, State, total

Array = NDArray[np.float64]


@dataclass(eq=False)
class Orbits(Flat):
    """Which moves of atoms are free: each atom of an orbit moves as its first one does, turned."""

    first: PerAtom  # (atoms,) how many atoms before this one the first of its orbit is
    share: PerAtom  # (atoms,) 1 / size of its orbit
    rotation: PerAtom  # (atoms, 3, 3) R, from the first atom
    site: PerAtom  # (atoms, 3, 3) projector on what the first atom may do

    def leave(self, vectors: Tensor) -> Tensor:
        """What is free of (atoms, 3) forces or moves: the orthogonal projection on moves that keep everything."""
        first = torch.arange(len(vectors), device=vectors.device) - self.first
        turned_back = torch.bmm(self.rotation, vectors[:, :, None])[:, :, 0] * self.share[:, None]
        mean = total(turned_back, first, len(vectors))
        return torch.bmm(torch.bmm(mean[first][:, None], self.site), self.rotation)[:, 0]


def find_orbits(state: State, tolerance: float | None) -> tuple[Orbits, Tensor]:
    """Orbits of all systems of a state, which is made symmetric, and (systems, 9, 9) the strains their groups allow.

    Without a tolerance (A) each atom is an orbit, and may do what constraints leave.

    Raises:
        ValueError: a system in which no symmetry can be found.
    """
    count = state.num_atoms
    identity = torch.eye(3, dtype=torch.float64, device=state.device)
    orbits = Orbits(
        first=torch.zeros_like(state.batch),
        share=torch.ones_like(state.masses),
        rotation=identity.repeat(count, 1, 1),
        site=state.free,
    )
    strains = torch.eye(9, dtype=torch.float64, device=state.device).repeat(state.num_systems, 1, 1)
    if tolerance is None:
        return orbits, strains
    sizes = state.atoms_per_system.tolist()
    columns = zip(state.positions.split(sizes), state.numbers.split(sizes), state.free.split(sizes), strict=True)
    groups = [
        SpaceGroup(x.cpu().numpy(), numbers.cpu().numpy(), cell.cpu().numpy(), tolerance)
        for (x, numbers, _), cell in zip(columns, state.cell, strict=True)
    ]
    state.positions = torch.cat([torch.from_numpy(group.positions) for group in groups]).to(state.device)
    state.cell = torch.stack([torch.from_numpy(group.cell) for group in groups]).to(state.device)
    found = [group.orbits(free.cpu()) for group, free in zip(groups, state.free.split(sizes), strict=True)]
    return found[0].join(found[1:]).to(state.device), torch.stack([group.strains for group in groups]).to(state.device)


class SpaceGroup:
    """The operations of a crystal, and the crystal nearest to it that has them exactly.

    Attributes:
        number: of the space group.
        cell, positions: of the symmetric crystal, A.
        fractional: (operations, 3, 3) W, integers.
        rotations: (operations, 3, 3) R.
        permutation, cells: (operations, atoms) at which atom each ends, and (operations, atoms, 3) how many cells away.

    Raises:
        ValueError: no symmetry can be found, as where atoms overlap within the tolerance.
    """

    def __init__(self, positions: Array, numbers: NDArray[np.int64], cell: Array, tolerance: float) -> None:
        fractional = positions @ np.linalg.inv(cell)
        found = find_symmetry(cell, fractional, numbers, tolerance)
        self.number = int(found.number)
        self.fractional = np.array(found.operations.rotations, dtype=np.int64)
        w = self.fractional.astype(np.float64)
        shifts = np.array(found.operations.translations)
        images = np.einsum("gij,nj->gni", w, fractional) + shifts[:, None]
        self.permutation = np.stack([_nearest(image, fractional, numbers) for image in images])
        missed = fractional[self.permutation] - images
        cells_apart = np.round(missed)
        self.cells = -cells_apart.astype(np.int64)
        missed = missed - cells_apart
        # w from the atoms themselves: whatever they miss, operations of one group about one origin
        better = missed.mean(axis=1, keepdims=True)
        targets = images + cells_apart + better  # of atom n under g; the mean over g of those that end at an atom
        refined = np.zeros_like(fractional)
        for target, permutation in zip(targets, self.permutation, strict=True):
            refined[permutation] += target / len(targets)
        metric = np.einsum("gji,jk,gkl->il", w, cell @ cell.T, w) / len(w)
        self.cell = cell @ _root(np.linalg.inv(cell) @ metric @ np.linalg.inv(cell).T)
        self.positions = refined @ self.cell
        self.rotations = np.linalg.inv(self.cell) @ w.transpose(0, 2, 1) @ self.cell

    @property
    def strains(self) -> Tensor:
        """(9, 9) projector on the strains that leave the group as it is."""
        turned = np.einsum("gki,glj->gijkl", self.rotations, self.rotations)
        return torch.from_numpy(turned.mean(axis=0).reshape(9, 9))

    def orbits(self, free: Tensor) -> Orbits:
        """The orbits, where constraints leave `free` (atoms, 3, 3) of the moves of each atom."""
        count = self.permutation.shape[1]
        first = self.permutation.min(axis=0)
        reached = np.argmax(self.permutation[:, first] == np.arange(count), axis=0)  # by which operation
        rotation = torch.from_numpy(self.rotations[reached])
        site = torch.empty(count, 3, 3, dtype=torch.float64)
        for leader in np.unique(first):
            members = np.flatnonzero(first == leader)
            stays = self.rotations[self.permutation[:, leader] == leader].mean(axis=0)
            held = rotation[members] @ free[members] @ rotation[members].mT
            site[members] = common([torch.from_numpy(stays), *held])
        sizes = np.bincount(first, minlength=count)[first]
        return Orbits(torch.from_numpy(np.arange(count) - first), torch.from_numpy(1 / sizes), rotation, site)


def find_symmetry(cell: Array, fractional: Array, numbers: NDArray[np.int64], tolerance: float) -> MoyoDataset:
    """What moyo knows of a crystal whose atoms may miss their symmetry by a tolerance (A).

    Raises:
        ValueError: no symmetry can be found, as where atoms overlap within the tolerance.
    """
    with _quiet(logging.getLogger("moyo")):
        try:
            return MoyoDataset(Cell(cell.tolist(), fractional.tolist(), numbers.tolist()), symprec=tolerance)
        except ValueError as error:
            raise ValueError(f"no symmetry can be found within {tolerance} A: {error}") from None


@contextmanager
def _quiet(log: logging.Logger) -> Iterator[None]:
    """It warns of supercells whose lattice has less symmetry than the crystal, which is no fault."""
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def common(projectors: Sequence[Tensor]) -> Tensor:
    """(..., n, n) the orthogonal projectors on what the ranges of several have in common: where their mean is 1."""
    values, vectors = torch.linalg.eigh(torch.stack(list(projectors)).mean(dim=0))
    shared = vectors * (values > 1 - 1e-6)[..., None, :]
    return shared @ shared.mT


def _nearest(image: Array, fractional: Array, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which atom of the same element each image falls on."""
    apart = image[:, None] - fractional[None]
    apart = np.square(apart - np.round(apart)).sum(axis=2)
    apart[numbers[:, None] != numbers[None]] = np.inf
    return apart.argmin(axis=1)


def _root(matrix: Array) -> Array:
    """The positive root of a positive definite matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(values)) @ vectors.T
