"""Chains whose structure is known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.geometry import atoms_of, frames_of
from atomsml.generative.proteins.io.files import read_chains
from tests.generative.proteins.coils import grown

FIXTURES = Path(__file__).parents[3] / "data" / "proteins"
HELIX, STRAND = (-57.8, -47.0), (-139.0, 135.0)  # phi, psi of the ideal ones (Pauling and Corey, 1951)


def fixture(name: str) -> Chain:
    (chain,) = read_chains(FIXTURES / f"{name}.pdb.gz")
    return chain


def chain_of(coordinates: np.ndarray) -> Chain:
    """Glycines of these atoms (residues, 4, 3), numbered from 1."""
    size = len(coordinates)
    return Chain(coordinates, "G" * size, tuple(str(i + 1) for i in range(size)))


def ideal(phi: float, psi: float, residues: int) -> np.ndarray:
    """N, CA, C and O of a chain of one phi and psi, in degrees."""
    angles = (np.full(residues, np.radians(angle)) for angle in (phi, psi))
    return atoms_of(*frames_of(torch.from_numpy(grown(*angles)))).numpy()


def antiparallel_sheet(residues: int, apart: float = 4.84) -> np.ndarray:
    """Two ideal strands beside each other, related by a twofold axis that stands on the sheet."""
    strand = ideal(*STRAND, residues)
    ca, middle = strand[:, 1], residues // 2
    along = (ca[middle + 2] - ca[middle - 2]) / np.linalg.norm(ca[middle + 2] - ca[middle - 2])
    carbonyl = strand[middle, 3] - strand[middle, 2]
    aside = carbonyl - carbonyl @ along * along
    aside /= np.linalg.norm(aside)
    axis = np.cross(along, aside)
    place = ca[middle] + aside * apart / 2
    other = (strand - place) @ (2 * np.outer(axis, axis) - np.eye(3)) + place
    return np.concatenate([strand, other])
