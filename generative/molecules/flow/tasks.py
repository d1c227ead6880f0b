"""What the two networks of a molecule flow are asked: where heavy atoms go, and where their hydrogens go.

A task says which atoms there are, which of them are known, and how the others are spread before they are placed: about
an origin, with a covariance between atoms,

    x = origin + root y,    y standard normal noise, so that the covariance of x is root root^T in each direction.

A flow moves y, the state. Of the skeleton the origin is the centre, of hydrogens the heavy atom that carries them.
Lengths are in UNIT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.generative.molecules.flow.network import Atoms
from atomsml.generative.molecules.flow.united_atoms import KINDS, parents, united_types
from atomsml.generative.molecules.molecules import Molecules

UNIT = 1.3  # Angstrom: about the standard deviation of the coordinates of a small molecule's heavy atoms
KNOWN = 0.1  # of the molecules are trained with a part known
HYDROGEN_NOISE = 0.8  # in UNIT: a bond to hydrogen is that long


@dataclass(frozen=True)
class UnitedMolecules:
    """A padded batch whose heavy atoms come first."""

    types: Tensor  # (samples, nodes): element and hydrogens of heavy atoms, KINDS a heavy element; then hydrogen
    parent: Tensor  # (samples, nodes): the heavy atom of each hydrogen; -1 elsewhere
    num_heavy: Tensor  # (samples,)
    num_atoms: Tensor  # (samples,)
    positions: Tensor  # (samples, nodes, 3), in UNIT; zero where they are not yet known
    bonds: Tensor | None  # (samples, nodes, nodes)

    @property
    def mask(self) -> Tensor:
        return torch.arange(self.types.shape[1], device=self.types.device) < self.num_atoms[:, None]

    @property
    def is_heavy(self) -> Tensor:
        return torch.arange(self.types.shape[1], device=self.types.device) < self.num_heavy[:, None]

    def select(self, rows: Tensor) -> UnitedMolecules:
        """Some of the samples."""
        bonds = None if self.bonds is None else self.bonds[rows]
        return UnitedMolecules(
            self.types[rows], self.parent[rows], self.num_heavy[rows], self.num_atoms[rows], self.positions[rows], bonds
        )


@dataclass(frozen=True)
class Task:
    """Atoms some of which are to be placed, in a frame whose origin is the centre of what is known."""

    atoms: Atoms
    places: Tensor  # (samples, nodes, 3): where all atoms are in the data; of no meaning while they are to be placed
    centre: Tensor  # (samples, 1, 3): of what is known, or of everything where nothing is, in the frame of the molecule
    origin: Tensor  # (samples, nodes, 3): where known atoms are, and about which place the others are spread
    groups: Tensor  # (samples, nodes): atoms to be placed that are alike; -1 for known atoms and padding
    root: Tensor  # (samples, nodes, nodes), symmetric; zero for known atoms and padding
    inverse: Tensor  # its pseudo-inverse

    @property
    def moving(self) -> Tensor:
        """(samples, nodes) bool: atoms to be placed."""
        return self.atoms.mask & ~self.atoms.known

    @property
    def centred(self) -> Tensor:
        """(samples,) bool: nothing is known, so that translations and rotations do not matter."""
        return ~self.atoms.known.any(dim=1)

    def positions(self, state: Tensor) -> Tensor:
        """Where all atoms are; with their mean at the origin where nothing is known."""
        return self.origin + self.root @ state

    def state(self, positions: Tensor) -> Tensor:
        """(samples, nodes, 3) the state that has these positions, but for a common shift where nothing is known."""
        return self.inverse @ (positions - self.origin)

    def free(self, vectors: Tensor) -> Tensor:
        """(samples, nodes, 3) the part of displacements that the state can make."""
        return self.root @ (self.inverse @ vectors)


def unite(molecules: Molecules, heavy: Sequence[int]) -> UnitedMolecules:
    """Heavy atoms first, with the number of hydrogens that each carries.

    Raises:
        ValueError: a molecule that `united_atoms.parents` refuses.
    """
    numbers = molecules.numbers.cpu().numpy()
    # heavy atoms, hydrogens, padding
    order = np.argsort(np.select([numbers > 1, numbers == 1], [0, 1], 2), axis=1, kind="stable")
    numbers = np.take_along_axis(numbers, order, axis=1)
    where = torch.from_numpy(order).to(molecules.positions.device)
    positions = torch.gather(molecules.positions, 1, where[..., None].expand_as(molecules.positions)) / UNIT
    bonds = molecules.bonds
    if bonds is not None:
        bonds = torch.gather(bonds, 1, where[:, :, None].expand_as(bonds))
        bonds = torch.gather(bonds, 2, where[:, None].expand_as(bonds))
    types, parent = np.zeros_like(numbers), np.full_like(numbers, -1)
    for row, (z, x) in enumerate(zip(numbers, positions.cpu().numpy(), strict=True)):
        size = int((z > 0).sum())
        parent[row, :size] = parents(z[:size], x[:size])
        found = united_types(z[:size], parent[row, :size], heavy)
        types[row, :size] = np.where(found < 0, len(heavy) * KINDS, found)
    device = positions.device
    return UnitedMolecules(
        torch.from_numpy(types).to(device),
        torch.from_numpy(parent).to(device),
        torch.from_numpy((numbers > 1).sum(axis=1)).to(device),
        torch.from_numpy((numbers > 0).sum(axis=1)).to(device),
        positions,
        bonds,
    )


def skeleton_task(united: UnitedMolecules, known: Tensor, conditions: Tensor) -> Task:
    """Place the heavy atoms that are not `known` (samples, nodes)."""
    nodes = int(united.num_heavy.max())
    mask, known = united.is_heavy[:, :nodes], known[:, :nodes]
    centre = centre_of(united.positions[:, :nodes], torch.where(known.any(dim=1)[:, None], known, mask))
    places = united.positions[:, :nodes] - centre
    types = torch.where(mask, united.types[:, :nodes], 0)
    origin = torch.where(known[..., None], places, 0.0)
    groups = torch.where(mask & ~known, types, -1)
    nothing = places.new_zeros(*mask.shape, nodes, 1)
    atoms = Atoms(types, mask, known, nothing, conditions)
    return Task(atoms, places, centre, origin, groups, *_independent(mask, known, places, 1.0))


def hydrogen_task(united: UnitedMolecules) -> Task:
    """Place the hydrogens about a skeleton whose positions are known."""
    heavy, mask = united.is_heavy, united.mask
    is_hydrogen = mask & ~heavy
    centre = centre_of(united.positions, heavy)
    places = united.positions - centre
    carrier = united.parent.clamp(min=0)
    own = torch.where(heavy, torch.arange(heavy.shape[1], device=heavy.device), carrier)
    origin = torch.gather(places, 1, own[..., None].expand_as(places)) * mask[..., None]
    links = torch.zeros(*heavy.shape, heavy.shape[1], device=heavy.device, dtype=places.dtype)
    links.scatter_(2, carrier[..., None], is_hydrogen[..., None].to(places))
    links = (links + links.mT)[..., None]
    atoms = Atoms(torch.where(mask, united.types, 0), mask, heavy, links, places.new_zeros(len(places), 0))
    groups = torch.where(is_hydrogen, united.parent, -1)
    return Task(atoms, places, centre, origin, groups, *_independent(mask, heavy, places, HYDROGEN_NOISE))


def _independent(mask: Tensor, known: Tensor, like: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """`root` and `inverse` of atoms that are spread alike and independently, but for their mean if none is known."""
    moving = (mask & ~known).to(like)
    mean = moving[:, :, None] * moving[:, None] / moving.sum(dim=1).clamp(min=1)[:, None, None]
    projection = torch.diag_embed(moving) - mean * ~known.any(dim=1)[:, None, None]
    return scale * projection, projection / scale


def centre_of(positions: Tensor, of: Tensor) -> Tensor:
    """(samples, 1, 3) mean of the positions of some atoms."""
    weights = of[..., None].to(positions)
    return (positions * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)


def known_parts(united: UnitedMolecules, rng: np.random.Generator) -> Tensor:
    """(samples, nodes) bool: known atoms, of some of the samples."""
    known = torch.zeros_like(united.mask)
    if united.bonds is None:
        return known
    suited = (united.num_heavy > 2) & (united.bonds[:, 0, 0] >= 0)
    for row in np.flatnonzero((rng.random(len(known)) < KNOWN) & suited.cpu().numpy()):
        size = int(united.num_heavy[row])
        known[row, random_part(united.bonds[row, :size, :size].cpu().numpy(), rng)] = True
    return known


def random_part(bonds: np.ndarray, rng: np.random.Generator) -> list[int]:
    """A connected part of a skeleton, of any number of atoms but all; `bonds` (atoms, atoms) are non-zero."""
    size = int(rng.integers(1, len(bonds)))
    part = [int(rng.integers(len(bonds)))]
    while len(part) < size:
        beside = np.setdiff1d(np.flatnonzero(bonds[part].any(axis=0)), part)
        if len(beside) == 0:
            break
        part.append(int(rng.choice(beside)))
    return part
