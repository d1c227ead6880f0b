"""Which strains a crystal needs, and its elastic constants from the stresses: both by the rotations that it allows.

Tensors that the rotations leave as they are have few free numbers (cubic 3, hexagonal 5, triclinic 21). They are a
linear space, with a basis of orthonormal (6, 6) matrices in Mandel's notation, and what is fitted are coefficients of
that basis: the result has the symmetry exactly, in whatever frame the crystal is written.
"""

from __future__ import annotations

from itertools import combinations

import ase
import numpy as np

from atomsml.properties.elasticity.tensor import Array, mandel_rotations

LEAST = 0.4  # strains are enough if the noise of the tensor grows by no more than 1 / LEAST beside all six


def invariant_tensors(rotations: Array) -> Array:
    """(free, 6, 6) orthonormal, symmetric: all tensors that (operations, 3, 3) leave as they are are sums of these."""
    turns = mandel_rotations(rotations)
    mean = np.einsum("gac,gbd->abcd", turns, turns) / len(turns)
    mean = (mean + mean.transpose(1, 0, 2, 3)) / 2  # and C_ab = C_ba
    values, vectors = np.linalg.eigh(mean.reshape(36, 36))
    return vectors[:, values > 0.5].T.reshape(-1, 6, 6)  # a projector has 0 and 1


def needed_strains(basis: Array) -> list[int]:
    """The fewest of the six strains of BASIS (tensor.py) whose stresses determine all coefficients of a basis well."""
    choices = (list(some) for count in range(1, 7) for some in combinations(range(6), count))
    return next(some for some in choices if _sharpness(basis[:, :, some]) > LEAST)


def _sharpness(columns: Array) -> float:
    """The smallest singular value of coefficients -> stresses; 1 of all strains, because the basis is orthonormal."""
    flat = columns.reshape(len(columns), -1)
    return float(np.linalg.svd(flat, compute_uv=False)[-1]) if flat.shape[1] >= len(flat) else 0.0


def strained(atoms: ase.Atoms, strain: Array) -> ase.Atoms:
    """A copy whose cell is deformed by a symmetric (3, 3), atoms with it."""
    image = atoms.copy()
    image.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return image


def fit(basis: Array, strains: Array, stresses: Array) -> tuple[Array, float]:
    """The (6, 6) tensor, in Mandel's notation, that is nearest to the stresses, and how far it is from them.

    Args:
        basis: (free, 6, 6).
        strains: (n, 6) in Mandel's notation.
        stresses: (n, 6) half the difference of those of a strain and of its opposite: what is quadratic, as what is
            there without strain, drops out.

    Returns:
        The tensor in units of the stresses; the root mean square of what is left over that of the stresses.
    """
    columns = np.einsum("pab,nb->nap", basis, strains).reshape(-1, len(basis))
    coefficients, *_ = np.linalg.lstsq(columns, stresses.ravel(), rcond=None)
    left = columns @ coefficients - stresses.ravel()
    return np.einsum("p,pab->ab", coefficients, basis), float(np.linalg.norm(left) / np.linalg.norm(stresses))
