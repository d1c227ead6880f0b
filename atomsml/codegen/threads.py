"""Threads that run kernels, which leave Python's lock to others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


@lru_cache
def threads(number: int) -> ThreadPoolExecutor:
    """Threads that are kept: to make one takes longer than to wake it."""
    return ThreadPoolExecutor(number)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=threads.cache_clear)  # threads do not come along


def in_parts(rows: int, most: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) for parts of some rows, on as many threads as torch uses but at most `most`."""
    count = max(1, min(torch.get_num_threads(), most, rows))
    bounds = [rows * i // count for i in range(count + 1)]
    others = [threads(count - 1).submit(work, *bounds[i : i + 2]) for i in range(1, count)]
    work(*bounds[:2])
    for other in others:
        other.result()
