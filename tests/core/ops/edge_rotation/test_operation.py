"""Turning features into the frames of edges and back: kernels against sums written out, and their derivatives."""

import pytest
import torch
from torch import Tensor

from atomsml.ops.edge_rotation import turn_in, turn_in_reference, turn_out, turn_out_reference

LMAX, EDGES, ROWS = 2, 7, 4
KEPT = {1: (1, 3, 3), 2: (1, 3, 5)}  # rows of each degree, for mmax = 1 and 2
INDEX = torch.tensor([[0, 3, 3, 1, 0, 2, 3], [1, 1, 0, 2, 3, 2, 0]])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def operands(mmax: int, channels: int) -> tuple[list[Tensor], Tensor, Tensor, tuple[int, ...]]:
    """Any matrices, not only rotations; rows of messages in any order."""
    wigner = [random(EDGES, kept, 2 * l + 1, seed=l) for l, kept in enumerate(KEPT[mmax])]
    num = sum(KEPT[mmax])
    places = tuple(torch.randperm(num, generator=torch.Generator().manual_seed(1)).tolist())
    return wigner, random(ROWS, (LMAX + 1) ** 2, channels, seed=5), random(EDGES, num, channels, seed=6), places


def written_out(wigner: list[Tensor], places: tuple[int, ...]) -> Tensor:
    """(edges, rows of messages, components of features): all degrees in one matrix."""
    by_degree = torch.stack([torch.block_diag(*[d[e] for d in wigner]) for e in range(EDGES)])
    full = torch.zeros_like(by_degree)
    full[:, list(places)] = by_degree
    return full


@pytest.mark.parametrize("mmax", [1, 2])
@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("channels", [1, 5, 16])
def test_are_the_sums_that_they_stand_for(mmax: int, sources: int, channels: int) -> None:
    wigner, x, y, places = operands(mmax, channels)
    index, full = INDEX[:sources], written_out(wigner, places)
    into = torch.einsum("ekj,iejc->ekc", full, x[index])
    back = torch.zeros_like(x)
    for i in range(sources):
        for e in range(EDGES):
            back[index[i, e]] += full[e].T @ y[e]
    for found in (turn_in(wigner, x, index, places), turn_in_reference(wigner, x, index, places)):
        torch.testing.assert_close(found, into, rtol=0, atol=1e-13)
    for found in (turn_out(wigner, y, index, places, ROWS), turn_out_reference(wigner, y, index, places, ROWS)):
        torch.testing.assert_close(found, back, rtol=0, atol=1e-13)
    single = turn_in([d.float() for d in wigner], x.float(), index, places)
    torch.testing.assert_close(single, into.float(), rtol=0, atol=2e-5)  # sums of up to 10 terms of size 10


@pytest.mark.usefixtures("both_ways")
def test_derivatives_of_any_order() -> None:
    wigner, x, y, places = operands(1, 2)
    inputs = tuple(z.requires_grad_() for z in (x, y, *wigner))

    def both(x: Tensor, y: Tensor, *wigner: Tensor) -> tuple[Tensor, Tensor]:
        return turn_in(wigner, x, INDEX, places), turn_out(wigner, y, INDEX[:1], places, ROWS)

    assert torch.autograd.gradcheck(both, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(both, inputs, fast_mode=True)


@pytest.mark.usefixtures("both_ways")
def test_no_edges() -> None:
    wigner, x, y, places = operands(2, 3)
    nothing = [d[:0] for d in wigner]
    assert turn_in(nothing, x, INDEX[:, :0], places).shape == (0, len(places), 3)
    assert not turn_out(nothing, y[:0], INDEX[:, :0], places, ROWS).any()
