"""Wrong indices found: while `checked_indices` holds, or with ATOMSML_CHECK_INDICES=1, kernels look before they read.

    with checked_indices():
        energy = model(graph)    # IndexError: kernel `contraction_forward`: w[4096:4112] of 4096 numbers

A kernel is built either with checks, which make it several times slower, or without, in which case a wrong index reads
and writes whatever is there. Both are kept apart: `built_once` (kernels.py) remembers kernels of either sort.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise

from llvmlite import ir
from torch import Tensor

from atomsml.codegen.values import INT, Value, constant

NOTES = 4  # numbers of a note: the place in the text (from 1; 0: all is well), index, numbers accessed, length
_checked = ContextVar("checked", default=os.environ.get("ATOMSML_CHECK_INDICES") == "1")
checking: Callable[[], bool] = _checked.get


@contextmanager
def checked_indices(check: bool = True) -> Iterator[None]:
    """Kernels that are asked for inside have their indices checked (or not)."""
    token = _checked.set(check)
    try:
        yield
    finally:
        _checked.reset(token)


class Span(int):
    """An address that tells how many numbers lie there."""

    length: int

    def __new__(cls, address: int, length: int) -> Span:
        span = super().__new__(cls, address)
        span.length = length
        return span


def address(x: Tensor) -> int:
    """Of the first number of a contiguous tensor; while indices are checked, with the length."""
    return Span(x.data_ptr(), x.numel()) if checking() else x.data_ptr()


def addresses(start: int, layout: Sequence[int]) -> list[int]:
    """The same of arrays that lie one after the other; `layout` says where they begin and where the last one ends.

    In bytes, of which each number takes eight.
    """
    if checking():
        return [Span(start + begin, (end - begin) // 8) for begin, end in pairwise(layout)]
    return [start + begin for begin in layout[:-1]]


class Guard:
    """In a function under construction: notes the first wrong index and leaves the function.

    Args:
        builder: of the function.
        notes: address of NOTES numbers, zeros as long as all is well.
        sites: descriptions of the places where arrays are accessed; the function appends its own.
    """

    def __init__(self, builder: ir.IRBuilder, notes: Value, sites: list[str]) -> None:
        self.builder, self.notes, self.sites = builder, notes, sites
        self._wrong: list[ir.PhiInstr] = []
        self._left: ir.Block | None = None

    def check(self, site: str, index: Value, count: int, length: Value) -> None:
        """Go on only if numbers `index` to `index + count - 1` of an array exist."""
        self.sites.append(site)
        found = [constant(self.builder, number, INT) for number in (len(self.sites), count)]
        fine = (index >= 0) & (index + count <= length)
        wrong = self._block_of_wrong_indices()
        for phi, value in zip(self._wrong, (found[0], index, found[1], length), strict=True):
            phi.add_incoming(value.raw, self.builder.block)
        self._go_on_if(fine, wrong)

    def leave_if_wrong(self) -> None:
        """After a call of a function with the same notes."""
        noted = Value(self.builder, self.builder.load(self.notes.raw))
        self._go_on_if(noted.compare("==", 0), self._block_that_leaves())

    def _go_on_if(self, fine: Value, otherwise: ir.Block) -> None:
        after = self.builder.append_basic_block()
        self.builder.cbranch(fine.raw, after, otherwise)
        self.builder.position_at_end(after)

    def _block_of_wrong_indices(self) -> ir.Block:
        if not self._wrong:
            block = self.builder.append_basic_block()
            b = ir.IRBuilder(block)
            self._wrong = [b.phi(INT) for _ in range(NOTES)]
            for i, value in enumerate(self._wrong):
                b.store(value, b.gep(self.notes.raw, [INT(i)]))
            b.branch(self._block_that_leaves())
        return self._wrong[0].parent

    def _block_that_leaves(self) -> ir.Block:
        if self._left is None:
            self._left = self.builder.append_basic_block()
            b, result = ir.IRBuilder(self._left), self.builder.function.function_type.return_type
            b.ret_void() if isinstance(result, ir.VoidType) else b.ret(ir.Constant(result, 0))
        return self._left


def raise_if_wrong(notes: Sequence[int], sites: Sequence[str]) -> None:
    """Raises IndexError with what a kernel noted."""
    site, index, count, length = notes[:NOTES]
    if site:
        where = f"{index}" if count == 1 else f"{index}:{index + count}"
        raise IndexError(f"{sites[site - 1]}[{where}] of {length} numbers")
