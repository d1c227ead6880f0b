"""What follows from force constants, by phonopy: bands, density of states, thermal properties, imaginary modes.

Frequencies are in THz, imaginary ones i f as -f. Gamma is a point of meshes, which so have the crystal's symmetry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import seekpath
from numpy.typing import NDArray
from phonopy import Phonopy

from atomsml.units import KJ_PER_MOL

Array = NDArray[np.float64]

IMAGINARY: Final = 0.05  # THz: what lies between this, imaginary, and zero, is an inaccuracy
BAND_POINTS: Final = 250.0  # for each 1/A of a path


@dataclass(frozen=True, eq=False)
class Bands:
    """Frequencies along the standard path of a crystal's lattice (Hinuma et al., Comput. Mater. Sci. 128, 140 (2017)).

    It consists of segments between points with names, such as Γ and X; where a segment does not begin at the end of the
    one before it, the path jumps.
    """

    ends: list[tuple[str, str]]  # of each segment
    points: list[Array]  # (points, 3) of each segment, in the reciprocal vectors of the primitive cell
    distances: list[Array]  # (points,) along the path, 1/A, without 2 pi
    frequencies: list[Array]  # (points, modes) THz


@dataclass(frozen=True, eq=False)
class Mesh:
    """Frequencies on a regular mesh with Gamma, of which only points that no symmetry relates are there."""

    numbers: tuple[int, int, int]
    points: Array  # (points, 3)
    weights: Array  # (points,) their sum is 1
    frequencies: Array  # (points, modes) THz, in order

    @property
    def unstable(self) -> float:
        """Which share of the modes has no real frequency; shifts of the crystal, which have none, do not count."""
        excess = np.sum(self.frequencies <= 0, axis=1).astype(float)
        at_gamma = np.flatnonzero(np.all(self.points == 0, axis=1))
        excess[at_gamma] = np.sum(self.frequencies[at_gamma] < -IMAGINARY, axis=1)
        return float(self.weights @ excess) / self.frequencies.shape[1]


@dataclass(frozen=True, eq=False)
class Density:
    """States for each THz, of the primitive cell: the integral is the number of its modes."""

    frequencies: Array  # THz
    states: Array  # 1/THz


@dataclass(frozen=True, eq=False)
class Thermal:
    """Of harmonic vibrations with a real frequency, at the volume of the crystal: of the structure as it was given."""

    temperatures: Array  # K
    free_energy: Array  # eV, F = U - T S, with the zero-point energy
    entropy: Array  # eV/K
    heat_capacity: Array  # eV/K, at constant volume
    zero_point: float  # eV


@dataclass(frozen=True)
class Imaginary:
    """Imaginary modes at one point."""

    where: str  # "at X", "between Γ and X", or "at q = (0.1, 0, 0)"
    point: tuple[float, float, float]
    frequencies: tuple[float, ...]  # THz, below zero


def bands(phonopy: Phonopy) -> Bands:
    cell = phonopy.primitive
    path = seekpath.get_path_orig_cell(cell.totuple())
    places = {name: np.array(point) for name, point in path["point_coords"].items()}
    reciprocal = np.linalg.inv(cell.cell).T
    segments, distances, start = list[Array](), list[Array](), 0.0
    for begin, end in path["path"]:
        length = float(np.linalg.norm((places[end] - places[begin]) @ reciprocal))
        steps = np.linspace(0, 1, 2 + round(BAND_POINTS * length))
        segments.append(places[begin] + steps[:, None] * (places[end] - places[begin]))
        distances.append(start + steps * length)
        start += length
    phonopy.run_qpoints(np.concatenate(segments))
    cuts = np.cumsum([len(each) for each in segments])[:-1]
    found = np.split(phonopy.qpoints.frequencies, cuts)
    return Bands([(_letter(a), _letter(b)) for a, b in path["path"]], segments, distances, found)


def mesh(phonopy: Phonopy, length: float) -> Mesh:
    """Of `length` / a points along a lattice vector of the length a (A), nearly; phonopy keeps it, for the others."""
    found = phonopy.run_mesh(length, is_gamma_center=True)
    n1, n2, n3 = map(int, found.mesh_numbers)
    return Mesh(
        (n1, n2, n3),
        found.qpoints,
        found.weights / found.weights.sum(),
        np.sort(found.frequencies, axis=1),
    )


def density(phonopy: Phonopy) -> Density:
    """By the tetrahedra of the mesh that was made last."""
    found = phonopy.run_total_dos()
    return Density(found.frequency_points, found.dos)


def thermal(phonopy: Phonopy, temperatures: Array, cells: int) -> Thermal:
    """Of so many primitive cells, by the mesh that was made last, without the three shifts at Gamma."""
    found = phonopy.run_thermal_properties(temperatures=temperatures, exclude_gamma_acoustic=True)
    kilojoule = cells * KJ_PER_MOL
    return Thermal(
        temperatures,
        found.free_energy * kilojoule,
        found.entropy * kilojoule / 1000,
        found.heat_capacity * kilojoule / 1000,
        float(found.zero_point_energy) * kilojoule,
    )


def imaginary(bands: Bands, mesh: Mesh) -> list[Imaginary]:
    """At all points of the path that have a name, and at the lowest between them and of the mesh if it is lower."""
    found = dict[str, Imaginary]()
    for (begin, end), points, frequencies in zip(bands.ends, bands.points, bands.frequencies, strict=True):
        for name, i in ((begin, 0), (end, -1)):
            where = f"at {name}"
            found.setdefault(where, _imaginary(where, points[i], frequencies[i]))
        lowest = int(frequencies[:, 0].argmin())
        if 0 < lowest < len(points) - 1:
            where = f"between {begin} and {end}"
            found[where] = _imaginary(where, points[lowest], frequencies[lowest])
    lowest = int(mesh.frequencies[:, 0].argmin())
    if mesh.frequencies[lowest, 0] < min(each[:, 0].min() for each in bands.frequencies) - IMAGINARY:
        point = mesh.points[lowest]
        where = f"at q = ({', '.join(f'{x:.3g}' for x in point)})"
        found[where] = _imaginary(where, point, mesh.frequencies[lowest])
    return [each for each in found.values() if each.frequencies]


def _imaginary(where: str, point: Array, frequencies: Array) -> Imaginary:
    x, y, z = map(float, point)
    return Imaginary(where, (x, y, z), tuple(float(f) for f in frequencies if f < -IMAGINARY))


def _letter(name: str) -> str:
    """As it is written: GAMMA is Γ, SIGMA_0 is Σ_0."""
    return name.replace("GAMMA", "Γ").replace("SIGMA", "Σ").replace("DELTA", "Δ").replace("LAMBDA", "Λ")
