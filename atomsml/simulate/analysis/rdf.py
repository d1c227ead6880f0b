"""Radial distribution functions."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from ase.data import chemical_symbols

from atomsml.neighbors.lists import neighbor_list
from atomsml.simulate.analysis.findings import Findings
from atomsml.simulate.analysis.motion import Motion

REACH, WIDTH = 8.0, 0.05  # A: up to which distance, in bins how wide
MOST_FRAMES = 200  # evenly spread; more hardly change an average over all pairs


def analyze(motion: Motion) -> Findings:
    """g of each pair of elements, and its first peak."""
    motion.volumes  # noqa: B018 - says what is missing
    every = -(-len(motion.positions) // MOST_FRAMES)
    r, curves = radial_distributions(motion.positions[::every], motion.cell[::every], motion.numbers)
    numbers: dict[str, float] = {}
    for name, g in curves.items():
        peak = first_peak(g)
        if peak is not None:
            numbers[f"{name} peak at [A]"], numbers[f"{name} peak"] = float(r[peak]), float(g[peak])
    return Findings(numbers, {"rdf": {"r [A]": r, **{f"g {name}": g for name, g in curves.items()}}})


def radial_distributions(
    positions: np.ndarray, cell: np.ndarray, numbers: np.ndarray, reach: float = REACH, width: float = WIDTH
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """r (bins,) A, and g_ab(r) of each pair of elements, by names such as "O-H"; averages over frames.

    g_ab(r) = n_ab(r) / (N_a N_b / V 4 pi (r2^3 - r1^3) / 3), where n_ab counts the ordered pairs of an atom of a and
    one of b, images included, that are between r1 and r2 apart. Independent atoms have 1, but for 1 - 1 / N_a where a
    is b: an atom is not its own neighbour. As `ase.geometry.rdf.get_rdf`.

    Args:
        positions: (frames, atoms, 3) A.
        cell: (frames, 3, 3) A, periodic along all axes.
        numbers: (atoms,) atomic numbers.
        reach: A; more than half of the cell is right, too.
        width: of the bins, A.
    """
    edges = np.arange(round(reach / width) + 1) * width
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    elements, kind = np.unique(numbers, return_inverse=True)
    counts = np.bincount(kind)
    found = np.zeros((len(elements), len(elements), len(shells)))
    for frame, lattice in zip(positions, cell, strict=True):
        receiver, sender, distances = pairs_within(frame, lattice, reach)
        bins = np.minimum((distances / width).astype(int), len(shells) - 1)
        flat = (kind[receiver] * len(elements) + kind[sender]) * len(shells) + bins
        pairs = np.bincount(flat, minlength=found.size).reshape(found.shape)
        found += pairs * abs(np.linalg.det(lattice)) / shells
    found /= len(positions) * counts[:, None, None] * counts[None, :, None]
    names = [chemical_symbols[number] for number in elements]
    which = itertools.combinations_with_replacement(range(len(elements)), 2)
    return (edges[1:] + edges[:-1]) / 2, {f"{names[a]}-{names[b]}": found[a, b] for a, b in which}


def smoothed(g: np.ndarray) -> np.ndarray:
    """Averages over three bins, which takes noise away and leaves shells."""
    found: np.ndarray = np.convolve(g, np.ones(3) / 3, mode="same")
    return found


def first_peak(g: np.ndarray) -> int | None:
    """The bin in which g is highest where it is above 1 for the first time; None where it never is."""
    above = smoothed(g) > 1
    if not above.any():
        return None
    start = int(above.argmax())
    below = ~above[start:]
    stop = start + int(below.argmax()) if below.any() else len(g)
    return start + int(g[start:stop].argmax())


def pairs_within(positions: np.ndarray, cell: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two atoms and their distance in A of each ordered pair closer than `reach` in a periodic frame, images too."""
    where, lattice = torch.from_numpy(positions), torch.from_numpy(cell)
    batch, pbc = torch.zeros(len(positions), dtype=torch.int64), torch.ones(1, 3, dtype=torch.bool)
    (sender, receiver), offsets = neighbor_list(where, lattice[None], pbc, reach, batch)
    vectors = where[sender] + offsets.to(lattice) @ lattice - where[receiver]
    return receiver.numpy(), sender.numpy(), torch.linalg.vector_norm(vectors, dim=1).numpy()
