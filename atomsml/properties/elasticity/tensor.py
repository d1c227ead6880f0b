"""ElasticTensor: what follows from the elastic constants of a crystal: moduli, stability, speed of sound.

Symmetric matrices have six numbers in the orthonormal basis E_a of this file (Mandel's notation, whose shears are
sqrt(2) times the components), C_ab those of a tensor of fourth order: C_ijkl = sum_ab C_ab E_a,ij E_b,kl. There a
rotation of the crystal is an orthogonal matrix, the inverse of C is the compliance, and the eigenvalues are physical:
in Voigt's notation, which is what one prints, none of these is so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import units
from numpy.typing import NDArray

from atomsml.units import GPA, HBAR, KB

Array = NDArray[np.float64]

COMPONENTS = "xx", "yy", "zz", "yz", "xz", "xy"  # the order of the six, Voigt's
METRE_PER_SECOND = units.m / units.s  # A / (A sqrt(u/eV))

_PLACES = [("xyz".index(name[0]), "xyz".index(name[1])) for name in COMPONENTS]
_TO_MANDEL = np.array([1, 1, 1, 2**0.5, 2**0.5, 2**0.5])


def _basis() -> Array:
    matrices = np.zeros((6, 3, 3))
    for matrix, (i, j) in zip(matrices, _PLACES, strict=True):
        matrix[i, j] = matrix[j, i] = 1 if i == j else 0.5**0.5
    return matrices


BASIS = _basis()  # (6, 3, 3) E_a


def to_mandel(matrices: Array) -> Array:
    """(..., 6) of symmetric (..., 3, 3)."""
    return np.einsum("aij,...ij->...a", BASIS, matrices)


def mandel_rotations(rotations: Array) -> Array:
    """(..., 6, 6) how the six numbers change where a crystal is turned by (..., 3, 3): v becomes R v."""
    return np.einsum("aij,...ik,bkl,...jl->...ab", BASIS, rotations, BASIS, rotations)


@dataclass(frozen=True, eq=False)
class ElasticTensor:
    """Elastic constants at no pressure, and the averages of a polycrystal (Hill, Proc. Phys. Soc. A 65, 349 (1952)).

    Voigt's averages (all grains strained alike) are above those of Reuss (stressed alike), Hill's are their means.
    Reuss's and what depends on them are NaN where the crystal is not stable: it has no compliance then.

    Args:
        voigt: (6, 6) GPa, order xx yy zz yz xz xy, for shears 2 e_ij.
    """

    voigt: Array

    @staticmethod
    def of_mandel(matrix: Array) -> ElasticTensor:
        return ElasticTensor(matrix / np.outer(_TO_MANDEL, _TO_MANDEL))

    @cached_property
    def mandel(self) -> Array:
        return self.voigt * np.outer(_TO_MANDEL, _TO_MANDEL)

    @cached_property
    def full(self) -> Array:
        """(3, 3, 3, 3) GPa, C_ijkl."""
        return np.asarray(np.einsum("ab,aij,bkl->ijkl", self.mandel, BASIS, BASIS))

    def rotated(self, rotation: Array) -> ElasticTensor:
        """That of the crystal turned by a matrix (3, 3): v becomes R v."""
        turn = mandel_rotations(rotation)
        return ElasticTensor.of_mandel(turn @ self.mandel @ turn.T)

    @cached_property
    def eigenvalues(self) -> Array:
        """(6,) GPa, rising, of the tensor of fourth order: the strains whose stress is parallel to them."""
        return np.asarray(np.linalg.eigvalsh(self.mandel))

    @property
    def stable(self) -> bool:
        """Born's condition at no pressure: every strain costs energy (Mouhat and Coudert, PRB 90, 224104 (2014))."""
        return bool(self.eigenvalues[0] > 0)

    @cached_property
    def compliance(self) -> Array:
        """(6, 6) 1/GPa, in Mandel's notation; NaN where the crystal is not stable."""
        return np.asarray(np.linalg.inv(self.mandel)) if self.stable else np.full((6, 6), np.nan)

    @property
    def bulk_voigt(self) -> float:
        """GPa."""
        return _of_dilation(self.mandel) / 3

    @property
    def bulk_reuss(self) -> float:
        """GPa."""
        return 1 / (3 * _of_dilation(self.compliance))

    @property
    def shear_voigt(self) -> float:
        """GPa."""
        return _of_shears(self.mandel) / 2

    @property
    def shear_reuss(self) -> float:
        """GPa."""
        return 1 / (2 * _of_shears(self.compliance))

    @property
    def bulk(self) -> float:
        """GPa, Hill's."""
        return (self.bulk_voigt + self.bulk_reuss) / 2

    @property
    def shear(self) -> float:
        """GPa, Hill's."""
        return (self.shear_voigt + self.shear_reuss) / 2

    @property
    def young(self) -> float:
        """GPa, of the polycrystal with Hill's moduli."""
        return 9 * self.bulk * self.shear / (3 * self.bulk + self.shear)

    @property
    def poisson(self) -> float:
        """Of the polycrystal with Hill's moduli."""
        return (3 * self.bulk - 2 * self.shear) / (6 * self.bulk + 2 * self.shear)

    @property
    def pugh(self) -> float:
        """K / G: brittle crystals have less than some 1.75 (Pugh, Philos. Mag. 45, 823 (1954))."""
        return self.bulk / self.shear

    @property
    def anisotropy(self) -> float:
        """The universal index 5 G_V / G_R + K_V / K_R - 6 (Ranganathan and Ostoja-Starzewski, PRL 101, 055504 (2008));
        0 of what is isotropic."""
        return 5 * self.shear_voigt / self.shear_reuss + self.bulk_voigt / self.bulk_reuss - 6

    def young_along(self, directions: Array) -> Array:
        """(...) GPa: stress over strain of a bar along unit vectors (..., 3)."""
        pulled = to_mandel(directions[..., :, None] * directions[..., None, :])
        return 1 / np.einsum("...a,ab,...b->...", pulled, self.compliance, pulled)

    def sound_velocities(self, directions: Array, density: float) -> Array:
        """(..., 3) m/s, rising, of waves along unit vectors (..., 3) in a crystal of a density in u/A^3: the roots of
        the eigenvalues of Christoffel's matrix C_ijkl n_j n_l / density; NaN where they are negative."""
        matrices = np.einsum("ijkl,...j,...l->...ik", self.full * GPA, directions, directions) / density
        squares = np.linalg.eigvalsh(matrices)
        return np.sqrt(np.where(squares >= 0, squares, np.nan)) / METRE_PER_SECOND

    def mean_velocity(self, density: float) -> float:
        """m/s: (mean of v^-3)^(-1/3) over all directions and the three waves of each, of a density in u/A^3."""
        directions, weights = _sphere()
        slowness = (self.sound_velocities(directions, density) ** -3).mean(axis=1)
        return float((weights @ slowness) ** (-1 / 3))

    def debye_temperature(self, density: float, atoms_per_volume: float) -> float:
        """K, of the elastic limit (Anderson, J. Phys. Chem. Solids 24, 909 (1963)), with the mean over all directions
        of the crystal instead of that of Hill's moduli: hbar / k (6 pi^2 atoms / V)^(1/3) v.

        Args:
            density: u/A^3.
            atoms_per_volume: 1/A^3.
        """
        velocity = self.mean_velocity(density) * METRE_PER_SECOND
        return HBAR / KB * (6 * np.pi**2 * atoms_per_volume) ** (1 / 3) * velocity


def _of_dilation(matrix: Array) -> float:
    """The component of (6, 6) on the unit dilation: 3 K of an isotropic crystal."""
    dilation = to_mandel(np.eye(3)) / 3**0.5
    return float(dilation @ matrix @ dilation)


def _of_shears(matrix: Array) -> float:
    """The mean component of (6, 6) on the five shears: 2 G of an isotropic crystal."""
    return float(np.trace(matrix) - _of_dilation(matrix)) / 5


def _sphere(rings: int = 48) -> tuple[Array, Array]:
    """(n, 3) directions and (n,) weights that add up to 1: exact for polynomials of degrees below 2 rings."""
    z, weights = np.polynomial.legendre.leggauss(rings)
    angles = np.pi * (np.arange(2 * rings) + 0.5) / rings
    across = np.sqrt(1 - z**2)
    x, y = np.outer(across, np.cos(angles)), np.outer(across, np.sin(angles))
    directions = np.stack([x, y, np.broadcast_to(z[:, None], x.shape)], axis=-1).reshape(-1, 3)
    return directions, np.repeat(weights / weights.sum(), len(angles)) / len(angles)
