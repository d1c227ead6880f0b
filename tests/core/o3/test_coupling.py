"""The basis of symmetric equivariant polynomials against characters of SO(3), e3nn, and its own definition."""

import numpy as np
import pytest
import torch
from e3nn import o3
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation

from atomsml.o3 import wigner_d
from atomsml.o3.coupling import symmetric_basis


def polynomials(lmax: int, degree: int, l_out: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (..., 2 l_out + 1, P) at features x (..., (lmax + 1)^2)."""
    monomials, coefficients = symmetric_basis(lmax, degree, l_out)
    return np.einsum("...M,Mmp->...mp", x[..., monomials].prod(-1), coefficients)


def number_by_characters(lmax: int, degree: int, l_out: int) -> int:
    """How often the natural-parity irrep l_out occurs in Sym^degree of the natural-parity irreps 0..lmax.

    The mean over O(3) of the product of both characters. A rotation by angle t has the character sum_m cos(m t) on l,
    an inversion adds (-1)^l; the character h_d of Sym^d follows from those of the powers of the element by Newton's
    identity d h_d = sum_k p_k h_(d-k). The class measure (1 - cos t) dt / 2 pi is integrated exactly by equal steps.
    """
    angles = 2 * np.pi * np.arange(128) / 128

    def character(ls: range, power: int, inverted: bool) -> NDArray[np.float64]:
        signs = {order: (-1.0) ** (order * power * inverted) for order in ls}
        return sum(signs[order] * np.cos(m * power * angles) for order in ls for m in range(-order, order + 1))

    total = 0.0
    for inverted in (False, True):
        symmetric = [np.ones_like(angles)]
        for d in range(1, degree + 1):
            powers = [character(range(lmax + 1), k, inverted) * symmetric[d - k] for k in range(1, d + 1)]
            symmetric.append(sum(powers) / d)
        integrand = (1 - np.cos(angles)) * symmetric[degree] * character(range(l_out, l_out + 1), 1, inverted)
        total += integrand.mean() / 2
    assert abs(total - round(total)) < 1e-9
    return round(total)


@pytest.mark.parametrize(
    ("degree", "numbers"), [(1, (1, 1, 1, 1)), (2, (4, 3, 5, 3)), (3, (8, 12, 14, 15))], ids=["1", "2", "3"]
)
def test_numbers_of_paths_of_mace(degree: int, numbers: tuple[int, ...]) -> None:
    assert tuple(symmetric_basis(3, degree, l_out)[1].shape[2] for l_out in range(4)) == numbers


@pytest.mark.parametrize(("lmax", "degree"), [(0, 3), (1, 1), (1, 2), (1, 3), (1, 5), (2, 2), (2, 3), (2, 4), (3, 3)])
def test_basis_is_complete_by_characters(lmax: int, degree: int) -> None:
    for l_out in range(5):
        expected = number_by_characters(lmax, degree, l_out)
        assert symmetric_basis(lmax, degree, l_out)[1].shape[2] == expected, l_out


def test_high_degrees_are_complete() -> None:
    """In a second; lmax 6 takes a few."""
    assert symmetric_basis(5, 3, 1)[1].shape[2] == number_by_characters(5, 3, 1)


def test_only_monomials_in_use_are_listed() -> None:
    cubic = [symmetric_basis(3, 3, l_out)[0] for l_out in (0, 1)]
    quadratic = [symmetric_basis(3, 2, l_out)[0] for l_out in (0, 1)]
    assert (len(cubic[0]), len(cubic[1])) == (77, 278)  # of 816; invariants and vectors share none, by parity
    assert (len(quadratic[0]), len(quadratic[1])) == (16, 35)
    for monomials in cubic + quadratic:
        assert np.all(np.diff(monomials, axis=1) >= 0)
        assert len(np.unique(monomials, axis=0)) == len(monomials)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("l_out", [0, 1, 2, 3])
def test_polynomials_turn_with_their_argument(degree: int, l_out: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 16))
    rotation = torch.from_numpy(Rotation.random(rng=rng).as_matrix())
    turns = [wigner_d(order, rotation).numpy() for order in range(4)]
    for inversion in (1.0, -1.0):
        turn = block_diag(*[inversion**order * turns[order] for order in range(4)])
        expected = np.einsum("ab,nbp->nap", inversion**l_out * turns[l_out], polynomials(3, degree, l_out, x))
        np.testing.assert_allclose(polynomials(3, degree, l_out, x @ turn.T), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("l_out", [0, 1, 2])
def test_span_equals_that_of_e3nn(degree: int, l_out: int) -> None:
    formula = {2: "ij=ji", 3: "ijk=jik=jki"}[degree]
    irrep = o3.Irrep(l_out, (-1) ** l_out)
    tensors = o3.ReducedTensorProducts(formula, i="0e + 1o + 2e", filter_ir_out=[irrep])
    basis = tensors.change_of_basis.double().numpy()  # (P (2 l_out + 1), 9, 9[, 9])
    x = np.random.default_rng(2).standard_normal((60, 9))
    theirs = np.einsum("qij,ni,nj->nq", basis, x, x) if degree == 2 else np.einsum("qijk,ni,nj,nk->nq", basis, x, x, x)
    theirs = theirs.reshape(60 * (2 * l_out + 1), -1) if l_out == 0 else _by_path(theirs, l_out)
    ours = polynomials(2, degree, l_out, x).reshape(60 * (2 * l_out + 1), -1)
    assert theirs.shape == ours.shape
    for one, other in ((ours, theirs), (theirs, ours)):
        fitted = one @ np.linalg.lstsq(one, other, rcond=None)[0]
        np.testing.assert_allclose(fitted, other, rtol=0, atol=1e-5 * np.abs(other).max())  # e3nn's basis is float32


def _by_path(values: NDArray[np.float64], l_out: int) -> NDArray[np.float64]:
    """(n, P (2 l_out + 1)) as e3nn lays irreps out, to (n (2 l_out + 1), P)."""
    return values.reshape(len(values), -1, 2 * l_out + 1).swapaxes(1, 2).reshape(len(values) * (2 * l_out + 1), -1)


@pytest.mark.parametrize("l_out", [0, 1])
def test_outputs_are_orthonormal_for_normal_inputs(l_out: int) -> None:
    """Over an exact rule: products of five-point Gauss-Hermite rules integrate degree 9 in each of four variables."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    x = np.stack(np.meshgrid(*[nodes] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    weight = np.prod(np.meshgrid(*[weights / weights.sum()] * 4, indexing="ij"), axis=0).reshape(-1)
    for degree in (1, 2, 3, 4):
        values = polynomials(1, degree, l_out, x)
        moments = np.einsum("n,nmp,nmq->pq", weight, values, values) / (2 * l_out + 1)
        np.testing.assert_allclose(moments, np.eye(moments.shape[0]), rtol=0, atol=1e-12)


def test_basis_never_changes() -> None:
    """Stored weights refer to this very basis, signs and order included: these numbers must stay."""
    x = np.cos(np.arange(16.0))
    recorded = {
        (1, 1): [0.54030230586814],
        (2, 0): [0.57735026918963, 0.12851525852313, -0.00431557666334, 0.17228769527537],
        (2, 1): [0.54030230586814, 0.16878186093312, -0.41975254610395],
        (2, 2): [-0.65364362086361, -0.53489522870538, 0.87975551663147, 0.61442796683772, 0.77486406894864],
        (3, 0): [
            0.25819888974716,
            0.27278387197541,
            0.12178632476298,
            0.27186203096251,
            0.12960740254088,
            -0.6230113924963,
            -0.03735396213654,
            -0.20660034432176,
        ],
        (3, 1): [
            0.31194368173675,
            -0.02317291138321,
            0.06580143209264,
            0.14688768220704,
            0.16878186093312,
            -0.41975254610395,
            -0.4193030639168,
            0.05753420184352,
            -0.33900662958027,
            -0.34192137367739,
            0.06049080464007,
            0.05183929965853,
        ],
    }
    for (degree, l_out), values in recorded.items():
        np.testing.assert_allclose(polynomials(3, degree, l_out, x)[0], values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("arguments", [(3, 0, 0), (-1, 1, 0), (3, 1, -1)])
def test_impossible_arguments_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        symmetric_basis(*arguments)
