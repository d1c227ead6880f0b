"""Threads that run kernels and operations of torch, which leave Python's lock to others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache
def threads(number: int) -> ThreadPoolExecutor:
    """Threads that are kept: to make one takes longer than to wake it."""
    return ThreadPoolExecutor(number)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=threads.cache_clear)  # threads do not come along


def by_samples(
    function: Callable[..., tuple[Tensor, ...]], arguments: Sequence[Tensor], most: int
) -> tuple[Tensor, ...]:
    """function(*arguments), without gradients, of tensors whose first axis is samples that know nothing of each other.

    Parts of the samples go on as many threads as torch uses but at most `most`, and each has its thread to itself:
    nobody waits for another after every operation, as the threads of one operation do.
    """
    found: dict[int, tuple[Tensor, ...]] = {}
    number = torch.get_num_threads()

    def part(first: int, last: int) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            found[first] = function(*(x[first:last] for x in arguments))

    try:
        in_parts(len(arguments[0]), most, part)
    finally:
        torch.set_num_threads(number)
    return tuple(torch.cat(outputs) for outputs in zip(*(found[first] for first in sorted(found)), strict=True))


def in_parts(rows: int, most: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) for parts of some rows, on as many threads as torch uses but at most `most`."""
    count = max(1, min(torch.get_num_threads(), most, rows))
    bounds = [rows * i // count for i in range(count + 1)]
    others = [threads(count - 1).submit(work, *bounds[i : i + 2]) for i in range(1, count)]
    work(*bounds[:2])
    for other in others:
        other.result()
