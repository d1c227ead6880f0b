"""The products of all degrees against torch.matmul in float64."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from atomsml.codegen.machine import lanes
from atomsml.nn.linear import irrep_blocks
from atomsml.programs.irrep_linear import IrrepProduct, Runs
from atomsml.programs.plan import Plan

DTYPES = (torch.float32, torch.float64)


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same numbers for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def assert_products(out: Sequence[Tensor], x: Sequence[Tensor], weights: Sequence[Tensor], added: float = 0) -> None:
    """out = added + x @ W of every degree: K roundings of sums no larger than the sum of magnitudes."""
    for o, a, w in zip(out, x, weights, strict=True):
        expected = added + a.double() @ w.double()
        bound = (len(w) + 1) * torch.finfo(o.dtype).eps * (abs(added) + a.double().abs() @ w.double().abs())
        assert ((o.double() - expected).abs() <= bound).all()


def separate(atoms: int, channels: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
    return [random(atoms, 2 * l + 1, c, dtype=dtype) for l, c in enumerate(channels)]


def run(
    product: IrrepProduct,
    x: Sequence[Tensor],
    out: Sequence[Tensor],
    first: int,
    last: int,
    runs: Runs | None = None,
) -> None:
    scratch = torch.empty(0)
    plan = Plan(scratch)
    product.add_to(plan, x, out, first, last, runs)
    plan.run(scratch)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lmax", range(5))
def test_separate_to_joined_and_back(lmax: int, dtype: torch.dtype) -> None:
    atoms, dim, n = 11, (lmax + 1) ** 2, 3 * lanes(dtype)
    channels = [(1 + l % 3) * lanes(dtype) for l in range(lmax + 1)]
    weights = [random(c, n, dtype=dtype) for c in channels]
    x, out = separate(atoms, channels, dtype), torch.full((atoms, dim, n), torch.nan, dtype=dtype)
    run(IrrepProduct(weights, None, dim), x, [out], 0, atoms)
    assert_products(irrep_blocks(out, lmax), x, weights)
    back = [torch.full_like(a, torch.nan) for a in x]
    run(IrrepProduct([w.mT for w in weights], dim, None), [out], back, 0, atoms)
    assert_products(back, irrep_blocks(out, lmax), [w.mT for w in weights])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("atoms", range(16))
def test_only_the_atoms_of_the_range_are_read_and_written(atoms: int, dtype: torch.dtype) -> None:
    lmax, n = 3, 2 * lanes(dtype)
    weights = [random(n, n, dtype=dtype) for _ in range(lmax + 1)]
    first, last = 2, 2 + atoms
    x, out = torch.full((last + 1, 16, n), torch.nan, dtype=dtype), torch.full((last + 1, 16, n), 7.0, dtype=dtype)
    x[first:last] = random(atoms, 16, n, dtype=dtype)
    run(IrrepProduct(weights, 16, 16), [x], [out], first, last)
    assert_products(irrep_blocks(out[first:last], lmax), irrep_blocks(x[first:last], lmax), weights)
    assert (out[:first] == 7.0).all()
    assert (out[last:] == 7.0).all()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_has_its_matrices(dtype: torch.dtype) -> None:
    """They are added to leading components, of atoms from the second on: a run of one, one of eleven, one of two."""
    elements, lengths = torch.tensor([1, 2, *[0] * 11, 2, 2]), torch.tensor([1, 1, 11, *[0] * 10, 2, 0])
    atoms, n = len(elements), lanes(dtype)
    weights = [random(3, n, n, dtype=dtype) for _ in range(2)]
    x, out = random(atoms, 9, n, dtype=dtype), torch.full((atoms, 5, n), 0.5, dtype=dtype)
    product = IrrepProduct(weights, 9, 5, accumulate=True)
    run(product, [x], [out], 1, atoms, Runs(elements, lengths))
    for i in range(1, atoms):
        matrices, rows = [w[elements[i]] for w in weights], slice(i, i + 1)
        assert_products(irrep_blocks(out[rows, :4], 1), irrep_blocks(x[rows, :4], 1), matrices, added=0.5)
    assert (out[:, 4] == 0.5).all()
    assert (out[0] == 0.5).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 19])
@pytest.mark.parametrize("vectors", [1, 4, 11])
def test_any_number_of_channels(vectors: int, k: int, dtype: torch.dtype) -> None:
    atoms, n = 13, vectors * lanes(dtype)
    weights = [random(k, n, dtype=dtype)] * 2
    x, out = separate(atoms, [k, k], dtype), separate(atoms, [n, n], dtype)
    run(IrrepProduct(weights, None, None), x, out, 0, atoms)
    assert_products(out, x, weights)


def test_the_highest_degree() -> None:
    n = 3 * lanes(torch.float32)
    weights = [random(n, n, dtype=torch.float32)] * 7
    x, out = random(3, 49, n, dtype=torch.float32), torch.empty(3, 49, n)
    run(IrrepProduct(weights, 49, 49), [x], [out], 0, 3)
    assert_products(irrep_blocks(out, 6), irrep_blocks(x, 6), weights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_atom_has_the_same_bits_in_every_range(dtype: torch.dtype) -> None:
    atoms, n = 23, 4 * lanes(dtype)
    product = IrrepProduct([random(50, n, dtype=dtype)] * 4, 16, 16)
    x = random(atoms, 16, 50, dtype=dtype)
    whole, parts = torch.empty(atoms, 16, n, dtype=dtype), torch.empty(atoms, 16, n, dtype=dtype)
    run(product, [x], [whole], 0, atoms)
    for first, last in ((0, 1), (1, 4), (4, 11), (11, 23)):
        run(product, [x], [parts], first, last)
    assert torch.equal(whole, parts)


def test_later_changes_of_the_weights_do_not_count() -> None:
    n = lanes(torch.float64)
    weight, x, out = random(n, n), random(1, 1, n), torch.empty(1, 1, n, dtype=torch.float64)
    before, product = weight.clone(), IrrepProduct([weight], 1, 1)
    weight.zero_()
    run(product, [x], [out], 0, 1)
    assert_products([out], [x], [before])
