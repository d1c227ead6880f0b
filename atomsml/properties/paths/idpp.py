"""Image dependent pair potential: a first path between two structures whose atoms keep out of each other's way.

Image k shall have the distances d_k between its atoms that lie evenly between those of the end points. It moves on

    S_k = 1/2 sum_i sum_(j != i) (d_ij - d_k,ij)^2 / d_ij^4

(Smidstrup, Pedersen, Stokbro and Jonsson, J. Chem. Phys. 140, 214106 (2014)), as an elastic band.
"""

from __future__ import annotations

import ase
import numpy as np
import torch
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from atomsml.properties.paths.band import BandSettings, Course, move_bands
from atomsml.simulate.batching.in_flight import InFlight, Room, Size
from atomsml.simulate.state import State

SETTINGS = BandSettings(fmax=0.1, steps=100, spring=0.1, climb_below=0.0)


def straight(first: ase.Atoms, last: ase.Atoms, images: int) -> list[ase.Atoms]:
    """So many images on a straight line between two structures, and these."""
    found = []
    for share in np.linspace(0, 1, images + 2):
        found.append(first.copy())
        found[-1].set_positions(first.positions + share * (last.positions - first.positions), apply_constraint=False)
    return found


def between(first: ase.Atoms, last: ase.Atoms, images: int) -> list[ase.Atoms]:
    """The same by the image dependent pair potential, which stops after SETTINGS.steps at the latest."""
    path = straight(first, last, images)
    one, other = distances(np.array([first.positions, last.positions]), first)[0]
    wanted = one + np.linspace(0, 1, images + 2)[1:-1, None, None] * (other - one)

    def ask(state: State) -> None:
        positions = state.positions.numpy().reshape(-1, *first.positions.shape)
        energies, forces = pair_potential(positions, first, wanted[state.index.numpy()])
        state.energy, state.forces = torch.from_numpy(energies), torch.from_numpy(forces.reshape(-1, 3))

    flight = InFlight(1, lambda i: Size(len(first)), Room())
    [moved] = move_bands([Course(path, (0.0, 0.0))], ask, SETTINGS, flight, torch.device("cpu"))
    for image, better in zip(path[1:-1], moved.images, strict=True):
        if np.isfinite(better.positions).all():
            image.set_positions(better.positions, apply_constraint=False)
    return path


def distances(positions: NDArray[np.float64], atoms: ase.Atoms) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(..., atoms, atoms) from each atom to the nearest copy of each other, and the vectors with a last axis, A."""
    vectors = nearest(positions[..., None, :, :] - positions[..., :, None, :], atoms)
    return np.linalg.norm(vectors, axis=-1), vectors


def nearest(vectors: NDArray[np.float64], atoms: ase.Atoms) -> NDArray[np.float64]:
    """Vectors (..., 3), each without the lattice vectors that make it longer, in a cell that is reduced first.

    At borders between two images as far away as each other a vector may be by some percent no shortest one.
    """
    if not atoms.pbc.any():
        return vectors
    cell = minkowski_reduce(atoms.cell.complete(), atoms.pbc)[0]
    shares = vectors @ np.linalg.inv(cell)
    return vectors - (np.round(shares) * atoms.pbc) @ cell


def pair_potential(
    positions: NDArray[np.float64], atoms: ase.Atoms, wanted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """S (...) and their negative gradients (..., atoms, 3); pairs of the atoms in the cell of `atoms`."""
    found, vectors = distances(positions, atoms)
    itself = np.eye(len(atoms), dtype=bool)
    found = np.where(itself, 1, found)
    apart = np.where(itself, 0, found - wanted)
    slope = 2 * apart * (1 - 2 * apart / found) / found**4  # d/dd of apart^2 / d^4
    forces = (slope / found)[..., None] * vectors
    return 0.5 * (apart**2 / found**4).sum(axis=(-2, -1)), forces.sum(axis=-2)
