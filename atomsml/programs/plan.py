"""A list of kernel calls that is written once and carried out many times, without Python in between.

Molecular dynamics repeats the same few hundred calls with the same addresses. A plan holds them as rows of integers
(function, arguments), and one compiled loop makes the calls: kernels take addresses and int64 only, so that one type of
function serves them all, and those with fewer arguments do not look at the rest.

Arrays that lie in the `scratch` of a plan are remembered by their place in it: threads run the plan with memory of
their own. `carry_out` shares plans out among threads.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache

import torch
from llvmlite import ir
from torch import Tensor

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import INT, Value

ARGUMENTS = 31  # of a call, at most


class Plan:
    """Calls in the order in which they are added; it keeps their arrays alive."""

    def __init__(self, scratch: Tensor) -> None:
        self._start, self._stop = scratch.data_ptr(), scratch.data_ptr() + scratch.nbytes
        self._rows: list[list[int]] = []
        self._kept: list[object] = [scratch]
        self._notes: list[tuple[Kernel, Tensor]] = []
        self._calls = torch.empty(0, dtype=torch.int64)

    def add(self, kernel: Kernel, arrays: Sequence[Tensor], *counts: int) -> None:
        """Plan to call a kernel.

        Raises:
            TypeError: number, dtype or memory layout of the arrays, or the number of counts, are not the kernel's.
        """
        kernel.check_arguments(arrays, counts)
        addresses = [array.data_ptr() for array in arrays]
        in_scratch = [self._start <= address < self._stop for address in addresses]
        arguments = [a - self._start * inside for a, inside in zip(addresses, in_scratch, strict=True)] + list(counts)
        if kernel.checked:
            notes = kernel.notes(arrays)
            self._notes.append((kernel, notes))
            arguments.append(notes.data_ptr())
        mask = sum(inside << k for k, inside in enumerate(in_scratch))
        self._rows.append([kernel.address, mask, *arguments] + [0] * (ARGUMENTS - len(arguments)))
        self._kept += [kernel, *arrays]

    def run(self, scratch: Tensor) -> None:
        """Carry out all calls with other scratch memory. Raises IndexError if a kernel that is checked notes one."""
        if len(self._calls) < len(self._rows):
            self._calls = torch.tensor(self._rows, dtype=torch.int64)
        _runner()([self._calls], scratch.data_ptr(), len(self._rows))
        for kernel, notes in self._notes:
            kernel.raise_if_wrong(notes)


@built_once
def _runner() -> Kernel:
    code = Code("run_plan", ["calls_index"], ["scratch", "count"], torch.float64)
    b = code.builder
    function = ir.FunctionType(ir.VoidType(), [INT] * ARGUMENTS).as_pointer()

    def call(i: Value) -> None:
        row = code["calls_index"].row(i, ARGUMENTS + 2)
        address, mask, *numbers = (row[k] for k in range(ARGUMENTS + 2))
        inside = [(mask >> k) & 1 for k in range(ARGUMENTS)]
        arguments = [x + (code.counts["scratch"] & -one) for x, one in zip(numbers, inside, strict=True)]
        b.call(b.inttoptr(address.raw, function), [x.raw for x in arguments])

    code.loop(0, code.counts["count"], call)
    return code.finish()


def carry_out(steps: Sequence[Sequence[Plan]], scratch: Sequence[Tensor]) -> None:
    """Run steps one after the other, on as many threads as there are pieces of scratch memory.

    The plans of one step may run at the same time, in any order: each thread takes the next one that is left, so that
    one that other programs slow down takes fewer. Plans run without Python's lock, and threads sleep while they wait.
    """
    if len(scratch) == 1:
        for step in steps:
            _run_all(iter(step), scratch[0])
        return
    _runner()  # compiled before threads ask for it
    others, elsewhere = _threads(len(scratch) - 1), _other_cores()
    for step in steps:
        remaining = iter(step)  # taking the next one is a single step, also among threads
        working = [others.submit(_help, remaining, mine, elsewhere) for mine in scratch[1 : len(step)]]
        _run_all(remaining, scratch[0])
        for other in working:
            other.result()


@lru_cache
def _threads(number: int) -> ThreadPoolExecutor:
    """Threads that are kept: to make one takes longer than to wake it."""
    return ThreadPoolExecutor(number)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not come along


def _other_cores() -> set[int]:
    """The cores that this process may use but for that of the calling thread; empty where the system does not tell."""
    if sys.platform != "linux":
        return set()
    return os.sched_getaffinity(0) - {ctypes.CDLL(None).sched_getcpu()}


def _help(plans: Iterator[Plan], scratch: Tensor, cores: set[int]) -> None:
    """Run plans on other cores than the thread that asks: the system may let both share one for long."""
    if cores:
        with suppress(OSError):  # a wish that the system may refuse
            os.sched_setaffinity(0, cores)  # of this thread, which nobody else uses
    _run_all(plans, scratch)


def _run_all(plans: Iterator[Plan], scratch: Tensor) -> None:
    for plan in plans:
        plan.run(scratch)
