"""Wulff shapes: the shape of a crystal in equilibrium, of given volume and least surface energy.

It is all x with n . x <= gamma(n) for the outward normals n of all planes (Wulff, Z. Kristallogr. 34, 449 (1901)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import HalfspaceIntersection, QhullError

from atomsml.properties.conventional import rotations
from atomsml.properties.surfaces.slabs import Miller

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Face:
    """A polygon of the shape."""

    of: Miller  # as it was given
    corners: Array  # (n, 3), in their order around the face, in the unit of the energies

    @property
    def area(self) -> float:
        """In the unit of the energies, squared."""
        around = np.cross(self.corners - self.corners[0], np.roll(self.corners, -1, axis=0) - self.corners[0])
        return float(np.linalg.norm(around.sum(axis=0)) / 2)


def wulff_shape(crystal: ase.Atoms, energies: Mapping[Miller, float]) -> list[Face]:
    """Faces of the shape of a crystal in its conventional cell; none where the planes do not close it.

    Both faces of a plane have one energy, so symmetry is that of the Laue class.
    """
    if not energies or min(energies.values()) <= 0:
        return []
    operations = [sign * each for each in rotations(crystal) for sign in (1, -1)]
    indices = {tuple(np.array(miller) @ each): miller for miller in energies for each in operations}
    normals = np.array(list(indices)) @ np.linalg.inv(crystal.cell.array).T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    distances = np.array([energies[miller] for miller in indices.values()])
    try:
        corners = HalfspaceIntersection(np.column_stack([normals, -distances]), np.zeros(3)).intersections
    except QhullError:  # all normals lie in a plane
        return []
    if not np.isfinite(corners).all() or np.abs(corners).max() > 1e3 * distances.max():
        return []
    faces = []
    for miller, normal, distance in zip(indices.values(), normals, distances, strict=True):
        own = corners[np.abs(corners @ normal - distance) < 1e-9 * distances.max()]
        own = np.unique(own.round(12), axis=0)
        if len(own) > 2:
            faces.append(Face(miller, _around(own, normal)))
    return [face for face in faces if face.area > 1e-9 * distances.max() ** 2]


def _around(corners: Array, normal: Array) -> Array:
    """The corners of a convex polygon, by their angle."""
    first = corners[0] - corners.mean(axis=0)
    relative = corners - corners.mean(axis=0)
    return corners[np.argsort(np.arctan2(relative @ np.cross(normal, first), relative @ first))]
