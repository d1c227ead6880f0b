"""Products and their derivatives against those of torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atomsml.ops import matmul as ops
from atomsml.ops.matmul import cpu, gram, matmul, operation

DTYPES = (torch.float32, torch.float64)


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def assert_product(out: Tensor, x: Tensor, w: Tensor) -> None:
    """A rounding for each term of the sums, of sums no larger than those of magnitudes."""
    bound = (x.shape[1] + 1) * torch.finfo(out.dtype).eps * (x.double().abs() @ w.double().abs())
    assert ((out.double() - x.double() @ w.double()).abs() <= bound).all()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "k", "n"), [(0, 3, 4), (1, 1, 1), (7, 5, 16), (150, 24, 37), (300, 17, 8), (9, 64, 72)]
)
def test_kernels(rows: int, k: int, n: int, dtype: torch.dtype) -> None:
    """Rows, and columns, that fill no tile; blocks of rows that are summed up one after the other."""
    x, w, y = random(rows, k, dtype=dtype), random(k, n, dtype=dtype), random(rows, n, dtype=dtype, seed=2)
    assert_product(cpu.product(x, w), x, w)
    assert_product(cpu.product(y, w.mT), y, w.mT)
    assert_product(cpu.gram(x, y), x.mT, y)


def test_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "WORTH_A_KERNEL", 0)
    x, w, y = (random(*shape).requires_grad_() for shape in ((3, 2, 4), (4, 3), (6, 3)))
    for function, inputs in ((matmul, (x, w)), (lambda x, y: gram(x.flatten(0, 1), y), (x, y))):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


def test_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, y = random(2, 5, 4), random(2, 4, 3), random(2, 5, 3)
    expected = [x @ w, x.mT @ y]
    monkeypatch.setattr(operation, "WORTH_A_KERNEL", 0)
    torch.testing.assert_close([ops.matmul(x, w), ops.gram(x, y)], expected)


def test_threads_share_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has the bits that one thread gives it; sums over rows are those of parts."""
    x, w, y = random(100, 8), random(8, 5), random(100, 5)
    alone = cpu.product(x, w)
    monkeypatch.setattr(cpu, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    torch.testing.assert_close(cpu.product(x, w), alone, rtol=0, atol=0)
    assert_product(cpu.gram(x, y), x.mT, y)


def test_lower_precision_is_left_to_torch() -> None:
    x, w = random(2000, 64, dtype=torch.float32), random(64, 64, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert matmul(x, w).dtype == torch.bfloat16
