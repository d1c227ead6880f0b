"""Samples that are shared out among threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from atomsml.codegen.threads import by_samples, in_parts


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_samples_come_back_in_order_and_threads_are_as_before() -> None:
    seen: list[tuple[int, int]] = []

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((threading.get_ident(), torch.get_num_threads()))
        in_parts(10, 10, lambda first, last: None)  # kernels inside must not wait for the threads that they run on
        assert not torch.is_grad_enabled()
        return x + y, x.sum(dim=1)

    x, y = torch.randn(5, 3), torch.randn(5, 3)
    total, sums = by_samples(function, [x, y], most=9)
    assert torch.equal(total, x + y)
    assert torch.equal(sums, x.sum(dim=1))
    assert len({thread for thread, _ in seen}) == 2
    assert [threads for _, threads in seen] == [1, 1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_few_samples_stay_on_one_thread_and_errors_arrive() -> None:
    sizes: list[int] = []

    def counts(x: Tensor) -> tuple[Tensor]:
        sizes.append(len(x))
        return (x,)

    by_samples(counts, [torch.zeros(5)], most=1)
    assert sizes == [5]

    def fails(x: Tensor) -> tuple[Tensor]:
        raise ValueError("no such sample")

    with pytest.raises(ValueError, match="no such sample"):
        by_samples(fails, [torch.zeros(4)], most=2)
    assert torch.get_num_threads() == 2
