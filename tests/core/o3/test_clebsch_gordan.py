"""Clebsch-Gordan coefficients against e3nn, sympy and their own defining properties."""

import pytest
import torch
from e3nn import o3
from sympy.physics.quantum.cg import CG

from atomsml.o3 import clebsch_gordan, wigner_d
from atomsml.o3.clebsch_gordan import _condon_shortley

TRIPLES = [(a, b, c) for a in range(5) for b in range(5) for c in range(abs(a - b), min(a + b, 4) + 1)]


def test_equal_to_e3nn_including_sign() -> None:
    for triple in [*TRIPLES, (8, 1, 7), (7, 1, 8), (6, 3, 6), (8, 8, 8)]:
        expected = o3.wigner_3j(*triple, dtype=torch.float64)
        # the reference itself is a product of rounded matrices
        torch.testing.assert_close(clebsch_gordan(*triple), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("l1", "m1", "l2", "m2", "l3"),
    [(1, 0, 1, 0, 2), (2, -1, 3, 2, 4), (3, 3, 3, -3, 0), (8, 5, 7, -6, 9), (4, 1, 4, 1, 3)],
)
def test_complex_coefficients_equal_to_sympy(l1: int, m1: int, l2: int, m2: int, l3: int) -> None:
    exact = float(CG(l1, m1, l2, m2, l3, m1 + m2).doit())
    assert _condon_shortley(l1, m1, l2, m2, l3, m1 + m2) == pytest.approx(exact, rel=1e-15, abs=1e-300)


def test_couplings_to_different_degrees_are_orthonormal() -> None:
    couplings = [clebsch_gordan(3, 2, l3) * (2 * l3 + 1) ** 0.5 for l3 in range(1, 6)]
    basis = torch.cat(couplings, dim=-1).flatten(0, 1)
    torch.testing.assert_close(basis.T @ basis, torch.eye(35, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("triple", [(1, 1, 1), (2, 3, 2), (4, 2, 3)])
def test_invariant_under_rotation(triple: tuple[int, int, int], rotations: torch.Tensor) -> None:
    coupling = clebsch_gordan(*triple)
    first, second, third = (wigner_d(degree, rotations) for degree in triple)
    turned = torch.einsum("nai,nbj,nck,ijk->nabc", first, second, third, coupling)
    torch.testing.assert_close(turned, coupling.expand_as(turned), rtol=0, atol=1e-14)


def test_writing_into_a_result_leaves_the_next_one_alone() -> None:
    clebsch_gordan(1, 1, 2).zero_()
    assert clebsch_gordan(1, 1, 2).norm().item() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("triple", [(1, 1, 3), (2, 0, 1), (-1, 1, 1)])
def test_degrees_that_do_not_couple(triple: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="do not couple: choose degrees"):
        clebsch_gordan(*triple)
