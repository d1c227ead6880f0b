"""Where something may sit on a slab, by pymatgen's AdsorbateSiteFinder, and how it may be turned.

Sites are above atoms, between two, or above three and more; which of these is told by how many atoms of the surface are
nearest, because the triangles that pymatgen looks at halve a square.
"""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.adsorption import AdsorbateSiteFinder
from pymatgen.io.ase import AseAtomsAdaptor

Array = NDArray[np.float64]

KINDS = ("ontop", "bridge", "hollow")
SURFACE = 0.9  # A: atoms no deeper below the highest are the surface, as in pymatgen
AS_NEAR = 1.25  # times as far as the nearest: atoms within that are the neighbours of a site
ABOVE = 0.3  # A: a site no farther from an atom, along the surface, is above it
LOWEST = 0.3  # A: atoms no higher above the lowest of a molecule stand on the site with it


@dataclass(frozen=True, eq=False)
class AdsorptionSite:
    """A place on a slab."""

    kind: str  # of KINDS
    number: int  # of those of its kind, from 1
    position: Array  # (3,) A, in the plane of the atoms around it

    @property
    def name(self) -> str:
        """Such as "hollow 2"."""
        return f"{self.kind} {self.number}"

    def distance(self, position: Array, cell: Array) -> float:
        """A, how far a position is along the surface, from here or from a repetition by the rows of `cell`."""
        apart = (position - self.position)[:2] @ np.linalg.inv(cell[:2, :2])
        steps = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        return float(np.linalg.norm((apart - np.round(apart) + steps) @ cell[:2, :2], axis=1).min())


def find_sites(slab: ase.Atoms) -> tuple[list[AdsorptionSite], list[AdsorptionSite]]:
    """Those that symmetry tells apart, and all, on the upper face of a slab along x-y (`slabs.upright`)."""
    periodic = ase.Atoms(slab.numbers, slab.positions, cell=slab.cell.array, pbc=True)
    finder = AdsorbateSiteFinder(AseAtomsAdaptor.get_structure(periodic), height=SURFACE)
    return _found(slab, finder, 1e-2), _found(slab, finder, 0)


def _found(slab: ase.Atoms, finder: AdsorbateSiteFinder, tolerance: float) -> list[AdsorptionSite]:
    """By kinds; all, without a tolerance within which sites are alike."""
    places = finder.find_adsorption_sites(distance=0.0, symm_reduce=tolerance, positions=KINDS)["all"]
    kinds = [_kind(slab, np.asarray(place)) for place in places]
    return [
        AdsorptionSite(kind, number, np.asarray(place))
        for kind in KINDS
        for number, place in enumerate((each for each, its in zip(places, kinds, strict=True) if its == kind), 1)
    ]


def _kind(slab: ase.Atoms, position: Array) -> str:
    top = slab.positions[slab.positions[:, 2] > slab.positions[:, 2].max() - SURFACE]
    steps = np.array([(i, j, 0) for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ slab.cell.array
    distances = np.linalg.norm((top[:, None] + steps - position)[:, :, :2].reshape(-1, 2), axis=1)
    near = np.count_nonzero(distances < max(AS_NEAR * distances.min(), ABOVE))
    return KINDS[min(int(near), 3) - 1]


def orientations(molecule: ase.Atoms, turned: bool = True) -> list[ase.Atoms]:
    """A molecule with either end of each of its axes of inertia down; once where that makes no difference.

    Its lowest atoms are above the origin, at z = 0. Not `turned` it stays as it is.
    """
    ways = [np.eye(3)]
    if turned and len(molecule) > 1:
        _, axes = molecule.get_moments_of_inertia(vectors=True)
        axes = axes * [[1], [1], [np.sign(np.linalg.det(axes))]]
        ways = [
            way for k in range(3) for way in (np.roll(axes, 2 - k, axis=0), _reversed(np.roll(axes, 2 - k, axis=0)))
        ]
    found = dict[tuple[tuple[float, ...], ...], ase.Atoms]()
    for way in ways:
        atoms = molecule.copy()
        atoms.positions = (atoms.positions - atoms.positions.mean(axis=0)) @ way.T
        atoms.positions[:, 2] -= atoms.positions[:, 2].min()
        atoms.positions[:, :2] -= atoms.positions[standing(atoms), :2].mean(axis=0)
        radii = np.linalg.norm(atoms.positions[:, :2], axis=1)
        seen = sorted(zip(atoms.numbers.tolist(), atoms.positions[:, 2].round(1), radii.round(1), strict=True))
        found.setdefault(tuple(seen), atoms)
    return list(found.values())


def standing(molecule: ase.Atoms) -> NDArray[np.int64]:
    """Indices of the lowest atoms."""
    return np.flatnonzero(molecule.positions[:, 2] < molecule.positions[:, 2].min() + LOWEST)


def _reversed(axes: Array) -> Array:
    """Upside down."""
    return axes * [[1], [-1], [-1]]
