"""Equivariant polynomials of one feature vector: the basis in which MACE's symmetric contraction is written.

A feature vector x holds one irrep of each l = 0..lmax with natural parity (-1)^l; component (l, m) has index
l*l + l + m. The equivariant polynomials of degree d in x are built one factor at a time (Batatia et al. 2022,
MACE, eq. 10-11): every polynomial of degree d - 1 and rotation order L is coupled to every x_l with Clebsch-Gordan
coefficients. Writing the results in monomials symmetrises them, because the components of x commute, and most of
them then turn out to be linear combinations of others: only an independent set is kept.
"""

from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

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
    position = {tuple(row): index for index, row in enumerate(_monomials(lmax, degree).tolist())}
    components = range((lmax + 1) ** 2)
    lower = _monomials(lmax, degree - 1).tolist()
    return np.array([[position[tuple(sorted([*row, c]))] for c in components] for row in lower], dtype=np.int64)


@lru_cache
def _gaussian_moments(lmax: int, degree: int) -> NDArray[np.float64]:
    """E[monomial * monomial'] for x_i ~ N(0, 1), from E[x^2n] = (2n - 1)!!: (M, M)."""
    moment = np.array([float(np.prod(np.arange(n - 1, 0, -2))) * (n % 2 == 0) for n in range(2 * degree + 1)])
    monomials = _monomials(lmax, degree)
    result = np.ones((len(monomials), len(monomials)))
    for component in range((lmax + 1) ** 2):
        power = np.sum(monomials == component, axis=1)
        result *= moment[power[:, None] + power[None, :]]
    return result


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
    kept = np.zeros((0, len(moments), 2 * l_out + 1))
    duals = np.zeros_like(kept)  # sum(duals[p] * polynomial) is the inner product with kept[p]
    for candidate in _couplings(lmax, degree, l_out, parity):
        residual = candidate - np.tensordot(np.tensordot(duals, candidate, axes=2), kept, axes=1)
        dual = moments @ residual
        norm = np.sqrt(max(0.0, np.sum(residual * dual)))
        if norm > _INDEPENDENT:
            cleaned = np.where(np.abs(residual) > _ZERO, residual, 0.0)
            kept = np.concatenate([kept, cleaned[None] / norm])
            duals = np.concatenate([duals, dual[None] / norm])
    return np.moveaxis(kept, 0, 2)


def _couplings(lmax: int, degree: int, l_out: int, parity: int) -> list[NDArray[np.float64]]:
    """Polynomials of degree - 1 coupled to each x_l, in the order of (their rotation order, their index, l)."""
    products = _products(lmax, degree)
    result = []
    for l_lower in range((degree - 1) * lmax + 1):
        for l_factor in range(abs(l_out - l_lower), min(l_out + l_lower, lmax) + 1):
            lower = _polynomials(lmax, degree - 1, l_lower, parity * (-1) ** l_factor)
            terms = np.einsum("Map,abm->pMbm", lower, clebsch_gordan(l_lower, l_factor, l_out))
            target = products[:, l_factor**2 : (l_factor + 1) ** 2]  # (M', 2 l_factor + 1)
            for term in terms:
                polynomial = np.zeros((len(_monomials(lmax, degree)), 2 * l_out + 1))
                np.add.at(polynomial, target, term)
                result.append(polynomial)
    return result
