"""Kernels of messages between pairs against the equations in plain torch, whose derivatives torch finds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atomsml.ops.pair_messages import PairWeights, cpu, pair_messages, reference
from atomsml.ops.pair_messages.table import DISTANCES

DTYPES = (torch.float32, torch.float64)
ROUNDINGS = 200  # of sums of a hundred terms, one after the other in four products


def inputs(samples: int, nodes: int, channels: int, vectors: int, dtype: torch.dtype) -> list[Tensor]:
    """Random numbers, with padding, atoms in one place and others far apart."""
    random = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    sizes = torch.randint(1, nodes + 1, (samples,), generator=random)
    present = torch.arange(nodes) < sizes[:, None]
    others = (present[:, :, None] & present[:, None] & ~torch.eye(nodes, dtype=torch.bool)).double()
    logarithms = 1.5 * normal(samples, nodes, nodes).abs()
    logarithms[0, 0] = 0.0
    rows = [normal(samples, nodes, channels) for _ in range(2)]
    units = 0.5 * normal(samples, nodes, nodes, 3)
    widths = ((DISTANCES + 2 * vectors, channels), (channels, channels), (channels, 8), (channels, vectors))
    matrices = [normal(a, b) / a**0.5 for a, b in widths]
    z, v = normal(samples, nodes, nodes, channels), normal(samples, nodes, 3, vectors)
    given = [z, *rows, logarithms, units, v, others]
    return [x.to(dtype).requires_grad_(x is not others) for x in (*given, *matrices)]


def values_and_gradients(function: object, given: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_(x.requires_grad) for x in given]
    found = function(*leaves[:7], PairWeights(*leaves[7:]))  # type: ignore[operator]
    random = torch.Generator().manual_seed(8)
    weighted = [(x * torch.randn(x.shape, generator=random, dtype=torch.float64).to(x)).sum() for x in found]
    wanted = [x for x in leaves if x.requires_grad]
    return [*found, *torch.autograd.grad(torch.stack(weighted).sum(), wanted)]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("samples", "nodes", "channels", "vectors"), [(3, 5, 64, 16), (2, 9, 48, 8), (1, 1, 16, 5)])
def test_kernels_equal_the_equations(samples: int, nodes: int, channels: int, vectors: int, dtype: torch.dtype) -> None:
    given = inputs(samples, nodes, channels, vectors, dtype)
    expected = values_and_gradients(reference, [x.detach().double().requires_grad_(x.requires_grad) for x in given])
    for mine, wanted in zip(values_and_gradients(pair_messages, given), expected, strict=True):
        bound = ROUNDINGS * torch.finfo(dtype).eps * max(wanted.abs().max().item(), 1.0)
        torch.testing.assert_close(mine.double(), wanted, rtol=0, atol=bound)


def test_without_gradients() -> None:
    given = inputs(3, 4, 16, 4, torch.float64)
    weights = PairWeights(*given[7:])
    with torch.no_grad():
        alone = pair_messages(*given[:7], weights)
    torch.testing.assert_close(alone, pair_messages(*given[:7], weights), rtol=0, atol=0)


def test_threads_share_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(5, 4, 16, 4, torch.float64)
    alone = values_and_gradients(pair_messages, given)
    monkeypatch.setattr(cpu, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    torch.testing.assert_close(values_and_gradients(pair_messages, given), alone)
