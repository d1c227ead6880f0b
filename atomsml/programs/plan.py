"""A list of kernel calls that is written once and carried out many times, without Python in between.

    plan = Plan(scratch, chunk=16)
    plan.add(zero_kernel(dtype), [Rows(features)], NUMBER * row)    16 atoms at a time (a chunk): rows that are theirs,
    plan.add(find_kernel, [begin, end, ...], FIRST, LAST)           or all rows, and which ones are theirs
    plan.run(scratch, 0, atoms)                                     of this structure, and next time of another one

A plan is a template. It holds calls as rows of integers (function, arguments), and one compiled loop goes through the
chunks of a structure and makes the calls for each: every argument is a linear function of the chunk's first atom and
its last. A structure of another size therefore needs nothing but other numbers of atoms, as long as the arrays are
large enough. Kernels take addresses and int64 only, so that one type of function serves them all, and those with fewer
arguments do not look at the rest.

Arrays that lie in the `scratch` of a plan are remembered by their place in it: threads run the plan with memory of
their own. `carry_out` shares plans out among threads.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from llvmlite import ir
from torch import Tensor

from atomsml.codegen.checks import NOTES
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.threads import threads
from atomsml.codegen.values import INT, Value

ARGUMENTS = 31  # of a call, at most


@dataclass(frozen=True)
class Count:
    """constant + by_first * (first atom of the chunk) + by_last * (the one after its last)."""

    constant: int = 0
    by_first: int = 0
    by_last: int = 0

    def __mul__(self, factor: int) -> Count:
        return Count(self.constant * factor, self.by_first * factor, self.by_last * factor)


FIRST, LAST, NUMBER = Count(by_first=1), Count(by_last=1), Count(by_first=-1, by_last=1)
"""Of the atoms in a chunk: the first one, the one after the last, and how many there are."""


@dataclass(frozen=True)
class Rows:
    """An array (atoms, ...) from the first atom of the chunk on: the kernel counts the atoms of a chunk from 0."""

    of: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.of.shape

    @property
    def row(self) -> int:
        """Numbers of an atom."""
        return self.of.shape[1:].numel()


Array = Tensor | Rows


def tensor_of(array: Array) -> Tensor:
    return array.of if isinstance(array, Rows) else array


class Plan:
    """Calls in the order in which they are added; it keeps their arrays alive.

    Args:
        scratch: memory of a thread; `run` is given other memory of this size.
        chunk: atoms that the calls are made for at a time; None for all of them.
    """

    def __init__(self, scratch: Tensor, chunk: int | None = None) -> None:
        self._start, self._stop = scratch.data_ptr(), scratch.data_ptr() + scratch.nbytes
        self._chunk = chunk
        self._rows: list[list[int]] = []
        self._kept: list[object] = [scratch]
        self._checks: list[_Check] = []
        self._checking = threading.Lock()
        self._calls = torch.empty(0, dtype=torch.int64)

    def add(self, kernel: Kernel, arrays: Sequence[Array], *counts: int | Count) -> None:
        """Plan to call a kernel.

        Raises:
            TypeError: number, dtype or memory layout of the arrays, or the number of counts, are not the kernel's.
        """
        tensors = [tensor_of(array) for array in arrays]
        kernel.check_arguments(tensors, counts)
        in_scratch = [self._start <= x.data_ptr() < self._stop for x in tensors]
        arguments = [
            Count(x.data_ptr() - self._start * inside, x.element_size() * _row(array))
            for x, array, inside in zip(tensors, arrays, in_scratch, strict=True)
        ]
        arguments += [x if isinstance(x, Count) else Count(x) for x in counts]
        if kernel.checked:
            lengths = [Count(x.numel(), -_row(array)) for x, array in zip(tensors, arrays, strict=True)]
            self._checks.append(_Check(kernel, kernel.notes(tensors), lengths))
            arguments.append(Count(self._checks[-1].notes.data_ptr()))
        mask = sum(inside << k for k, inside in enumerate(in_scratch))
        arguments += [Count()] * (ARGUMENTS - len(arguments))
        row = [kernel.address, mask]
        for argument in arguments:
            row += [argument.constant, argument.by_first, argument.by_last]
        self._rows.append(row)
        self._kept += [kernel, *tensors]

    def __len__(self) -> int:
        """How many calls there are."""
        return len(self._rows)

    def run(self, scratch: Tensor, first: int = 0, last: int = 1) -> None:
        """Make all calls, chunk by chunk, for atoms first to last - 1, with other scratch memory.

        Raises:
            IndexError: a kernel that is checked notes a wrong index.
        """
        if len(self._calls) < len(self._rows):
            self._calls = torch.tensor(self._rows, dtype=torch.int64)
        chunk = self._chunk or max(last - first, 1)
        if not self._checks:
            _runner()([self._calls], scratch.data_ptr(), len(self._rows), first, last, chunk)
            return
        with self._checking:  # notes belong to the plan, not to who runs it
            for start in range(first, last, chunk):
                for check in self._checks:
                    check.begin(start)
                _runner()([self._calls], scratch.data_ptr(), len(self._rows), start, min(start + chunk, last), chunk)
                for check in self._checks:
                    check.kernel.raise_if_wrong(check.notes)


def _row(array: Array) -> int:
    return array.row if isinstance(array, Rows) else 0


@dataclass(frozen=True)
class _Check:
    """Where a checked kernel notes a wrong index, and how long its arrays are."""

    kernel: Kernel
    notes: Tensor
    lengths: Sequence[Count]

    def begin(self, first: int) -> None:
        self.notes[:] = torch.tensor([0] * NOTES + [x.constant + x.by_first * first for x in self.lengths])


@built_once
def _runner() -> Kernel:
    code = Code("run_plan", ["calls_index"], ["scratch", "count", "first", "last", "chunk"], torch.float64)
    b = code.builder
    function = ir.FunctionType(ir.VoidType(), [INT] * ARGUMENTS).as_pointer()
    start, stop, chunk = (code.counts[name] for name in ("first", "last", "chunk"))

    def of_chunk(i: Value) -> None:
        first = start + i * chunk
        last = (first + chunk).least(stop)

        def call(i: Value) -> None:
            row = code["calls_index"].row(i, 3 * ARGUMENTS + 2)
            address, mask = row[0], row[1]
            arguments = []
            for k in range(ARGUMENTS):
                constant, by_first, by_last = (row[2 + 3 * k + j] for j in range(3))
                inside = code.counts["scratch"] & -((mask >> k) & 1)
                arguments.append(constant + inside + by_first * first + by_last * last)
            b.call(b.inttoptr(address.raw, function), [x.raw for x in arguments])

        code.loop(0, code.counts["count"], call)

    code.loop(0, (stop - start + (chunk - 1)) // chunk, of_chunk)
    return code.finish()


@dataclass(frozen=True)
class Part:
    """What a thread does without looking up: a plan for atoms first to last - 1."""

    plan: Plan
    first: int = 0
    last: int = 1


def carry_out(steps: Sequence[Sequence[Part]], scratch: Sequence[Tensor]) -> None:
    """Run steps one after the other, on as many threads as there are pieces of scratch memory.

    The parts of one step may run at the same time, in any order: each thread takes the next one that is left, so that
    one that other programs slow down takes fewer. Plans run without Python's lock, and threads sleep while they wait.
    """
    if len(scratch) == 1:
        for step in steps:
            _run_all(iter(step), scratch[0])
        return
    _runner()  # compiled before threads ask for it
    others, elsewhere = threads(len(scratch) - 1), _other_cores()
    for step in steps:
        remaining = iter(step)  # taking the next one is a single step, also among threads
        working = [others.submit(_help, remaining, mine, elsewhere) for mine in scratch[1 : len(step)]]
        _run_all(remaining, scratch[0])
        for other in working:
            other.result()


def _other_cores() -> set[int]:
    """The cores that this process may use but for that of the calling thread; empty where the system does not tell."""
    if sys.platform != "linux":
        return set()
    return os.sched_getaffinity(0) - {ctypes.CDLL(None).sched_getcpu()}


def _help(parts: Iterator[Part], scratch: Tensor, cores: set[int]) -> None:
    """Run plans on other cores than the thread that asks: the system may let both share one for long."""
    if cores:
        with suppress(OSError):  # a wish that the system may refuse
            os.sched_setaffinity(0, cores)  # of this thread, which nobody else uses
    _run_all(parts, scratch)


def _run_all(parts: Iterator[Part], scratch: Tensor) -> None:
    for part in parts:
        part.plan.run(scratch, part.first, part.last)
