"""Equivariant polynomials of one feature vector: the basis in which MACE's symmetric contraction is written.

A feature vector x holds one irrep of each l = 0..lmax with natural parity (-1)^l; component (l, m) has index
l*l + l + m. The equivariant polynomials of degree d in x are built one factor at a time (Batatia et al. 2022,
MACE, eq. 10-11): every polynomial of degree d - 1 and rotation order L is coupled to every x_l with Clebsch-Gordan
coefficients. Writing the results in monomials symmetrises them, because the components of x commute, and most of
them then turn out to be linear combinations of others: only an independent set is kept.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from atomsml.o3.clebsch_gordan import clebsch_gordan

# Both tell rounding errors (below 1e-15) from true values: for lmax <= 3 and degree <= 3 the smallest norm
# that Gram-Schmidt leaves of an independent polynomial is 0.18, and the smallest coefficient of a monomial is 0.007.
_INDEPENDENT = 1e-6
_ZERO = 1e-12


@lru_cache
def symmetric_basis(lmax: int, degree: int, l_out: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All equivariant polynomials of one degree and output order, with natural output parity (-1)^l_out.

        out[m, p] = sum_M coefficients[M, m, p] prod_d x[monomials[M, d]]

    The P polynomials are orthonormal for x_i ~ N(0, 1), independent: E[sum_m out[m, p] out[m, q]] / (2 l_out + 1) is
    1 for p = q and 0 otherwise, so that every output has unit second moment. They follow from Gram-Schmidt over the
    couplings in a fixed order, which leaves neither a sign nor a rotation open: stored weights mean the same anywhere.

    Returns monomials (M, degree), ascending in each row and with no row unused, and coefficients (M, 2 l_out + 1, P).
    Raises ValueError for degree < 1, lmax < 0 or l_out < 0.
    """
    if degree < 1 or lmax < 0 or l_out < 0:
        raise ValueError(f"degree >= 1, lmax >= 0 and l_out >= 0 are needed, not {degree}, {lmax} and {l_out}")
    coefficients = _polynomials(lmax, degree, l_out, (-1) ** l_out)
    used = np.any(coefficients != 0.0, axis=(1, 2))
    return _monomials(lmax, degree)[used], coefficients[used]


@lru_cache
def _monomials(lmax: int, degree: int) -> NDArray[np.int64]:
    """Every monomial of the (lmax + 1)^2 components, as ascending indices (M, degree) in lexicographic order."""
    rows = list(combinations_with_replacement(range((lmax + 1) ** 2), degree))
    return np.array(rows, dtype=np.int64)


@lru_cache
def _products(lmax: int, degree: int) -> NDArray[np.int64]:
    """Index of (monomial of degree - 1) * (component) among the monomials of this degree: (M', (lmax + 1)^2)."""
    size, lower = (lmax + 1) ** 2, _monomials(lmax, degree - 1)
    rows = np.concatenate([np.repeat(lower, size, axis=0), np.tile(np.arange(size), len(lower))[:, None]], axis=1)
    place_values = size ** np.arange(degree - 1, -1, -1)
    # monomials are in lexicographic order: as numbers in base `size` they ascend
    found = np.searchsorted(_monomials(lmax, degree) @ place_values, np.sort(rows, axis=1) @ place_values)
    return found.reshape(len(lower), size)


@lru_cache
def _gaussian_moments(lmax: int, degree: int) -> csr_array:
    """E[monomial * monomial'] for x_i ~ N(0, 1), from E[x^2n] = (2n - 1)!!: (M, M).

    It vanishes unless the same components have odd powers in both: few monomials share them, and the matrix is sparse.
    """
    monomials, size = _monomials(lmax, degree), (lmax + 1) ** 2
    powers = np.zeros((len(monomials), size), dtype=np.int8)
    for column in monomials.T:
        powers[np.arange(len(monomials)), column] += 1
    _, group = np.unique(np.packbits(powers % 2, axis=1), axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    moment = np.array([float(np.prod(np.arange(n - 1, 0, -2))) * (n % 2 == 0) for n in range(2 * degree + 1)])
    rows, columns, values = [], [], []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        used = np.flatnonzero(powers[members].any(axis=0))
        both = powers[members][:, None, used] + powers[members][None, :, used]
        rows.append(np.repeat(members, len(members)))
        columns.append(np.tile(members, len(members)))
        values.append(moment[both].prod(axis=2).ravel())
    where = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.concatenate(values), where), shape=(len(monomials), len(monomials)))


@lru_cache
def _polynomials(lmax: int, degree: int, l_out: int, parity: int) -> NDArray[np.float64]:
    """The orthonormal polynomials in all monomials: (M, 2 l_out + 1, P).

    Their span is complete: the couplings of Sym^(d-1) x V project onto all of Sym^d.
    """
    if degree == 1:
        identity = np.zeros(((lmax + 1) ** 2, 2 * l_out + 1, int(l_out <= lmax and parity == (-1) ** l_out)))
        if identity.shape[2]:
            identity[l_out**2 : (l_out + 1) ** 2, :, 0] = np.eye(2 * l_out + 1)
        return identity
    moments = _gaussian_moments(lmax, degree) / (2 * l_out + 1)
    kept: list[NDArray[np.float64]] = []
    duals: list[NDArray[np.float64]] = []  # sum(duals[p] * polynomial) is the inner product with kept[p]
    for candidate in _couplings(lmax, degree, l_out, parity):
        overlaps = [np.vdot(dual, candidate) for dual in duals]
        residual = candidate.copy()
        for overlap, polynomial in zip(overlaps, kept, strict=True):
            residual -= overlap * polynomial
        dual = moments @ residual
        norm = np.sqrt(max(0.0, np.sum(residual * dual)))
        if norm > _INDEPENDENT:
            kept.append(np.where(np.abs(residual) > _ZERO, residual, 0.0) / norm)
            duals.append(dual / norm)
    return np.stack(kept, axis=2) if kept else np.zeros((moments.shape[0], 2 * l_out + 1, 0))


def _couplings(lmax: int, degree: int, l_out: int, parity: int) -> Iterator[NDArray[np.float64]]:
    """Polynomials of degree - 1 coupled to each x_l, in the order of (their rotation order, their index, l)."""
    products, size = _products(lmax, degree), len(_monomials(lmax, degree))
    for l_lower in range((degree - 1) * lmax + 1):
        for l_factor in range(abs(l_out - l_lower), min(l_out + l_lower, lmax) + 1):
            lower = _polynomials(lmax, degree - 1, l_lower, parity * (-1) ** l_factor)
            coupling = clebsch_gordan(l_lower, l_factor, l_out).numpy()
            target = products[:, l_factor**2 : (l_factor + 1) ** 2].ravel()  # M' x (2 l_factor + 1)
            for p in range(lower.shape[2]):
                terms = np.tensordot(lower[:, :, p], coupling, axes=1).reshape(len(target), -1)
                yield np.stack([np.bincount(target, x, minlength=size) for x in terms.T], axis=1)
