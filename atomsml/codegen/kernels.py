"""Kernels written as instructions on vectors of channels, put together by Python.

An operation that runs the same arithmetic for every channel is written out once for a vector of `lanes` neighbouring
channels: what is known beforehand (paths, coefficients, numbers of rows and channels) becomes straight-line code with
constant addresses, what is not (atoms, edges) becomes loops. Written like this a kernel does not depend on what a
compiler makes of loops, and is quick to compile, since no time goes into proving that arrays do not overlap.

Arrays are contiguous; their element type is the `dtype` of the kernel, of indices int64.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import ParamSpec

import torch
from llvmlite import ir
from torch import Tensor

from atomsml.codegen.arrays import Array
from atomsml.codegen.checks import NOTES, Guard, checking, raise_if_wrong
from atomsml.codegen.kept import Translation, kept
from atomsml.codegen.machine import MachineCode, lanes
from atomsml.codegen.values import DOUBLE, FLOAT, INT, Value, constant

P = ParamSpec("P")

KINDS = {torch.float32: FLOAT, torch.float64: DOUBLE, torch.int64: INT}


class Code:
    """The body of one kernel while it is written: `void name(arrays..., counts...)`.

    Args:
        name: of the function.
        arrays: their names; those of int64 end in "_index", those always of float64 in "_double".
        counts: names of its int64 arguments.
        dtype: of all other arrays, torch.float32 or torch.float64.
    """

    def __init__(self, name: str, arrays: Sequence[str], counts: Sequence[str], dtype: torch.dtype) -> None:
        self.name, self.lanes = name, lanes(dtype)
        special = {"index": torch.int64, "double": torch.float64}
        self._dtypes = {array: special.get(array.rpartition("_")[2], dtype) for array in arrays}
        self._sites: list[str] | None = [] if checking() else None
        types = [KINDS[x].as_pointer() for x in self._dtypes.values()] + [INT] * len(counts)
        notes = [INT.as_pointer()] * (self._sites is not None)
        function = ir.Function(ir.Module(name), ir.FunctionType(ir.VoidType(), types + notes), name)
        for argument in function.args[: len(arrays)]:
            argument.add_attribute("noalias")
        self.builder = ir.IRBuilder(function.append_basic_block())
        self._vector = ir.VectorType(KINDS[dtype], self.lanes)
        self.zero = Value(self.builder, ir.Constant(self._vector, None))
        given = function.args[len(arrays) :]
        self.counts = {count: Value(self.builder, x) for count, x in zip(counts, given, strict=False)}
        self._arrays = {
            array: Array(f"kernel `{name}`: {array}", self.builder, x)
            for array, x in zip(arrays, function.args, strict=False)
        }
        if self._sites is not None:
            self._add_checks(given[-1], self._sites)

    def _add_checks(self, notes: ir.Value, sites: list[str]) -> None:
        """Behind the notes are the lengths of the arrays."""
        memory = Array("", self.builder, notes)
        guard = Guard(self.builder, Value(self.builder, notes), sites)
        for i, array in enumerate(self._arrays.values()):
            array.guard, array.length, array.place = guard, memory[NOTES + i], self.integer(0)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def integer(self, value: int) -> Value:
        return constant(self.builder, value, INT)

    def double(self, value: float) -> Value:
        return constant(self.builder, value, DOUBLE)

    def constant(self, value: float) -> Value:
        """A vector of equal numbers."""
        return constant(self.builder, value, self._vector)

    def zeros(self, lanes: int) -> Value:
        """A vector of another number of lanes."""
        return Value(self.builder, ir.Constant(ir.VectorType(self._vector.element, lanes), None))

    def load(self, array: Array, index: int) -> Value:
        """The vector that begins at an element of an array."""
        return array.vector(index, self.lanes)

    def store(self, vector: Value | None, array: Array, index: int) -> None:
        """A vector to the elements from one on; None counts as zero."""
        array.set_vector(self.zero if vector is None else vector, index)

    def splat(self, array: Array, index: Value | int) -> Value:
        """One number of an array, in all lanes."""
        return array[index].splat(self.lanes)

    def add_to(self, value: Value, array: Array, index: int) -> None:
        self.store(self.load(array, index) + value, array, index)

    def loop(
        self,
        start: Value | int,
        stop: Value | int,
        body: Callable[..., Sequence[Value] | None],
        carried: Sequence[Value] = (),
        step: int = 1,
    ) -> list[Value]:
        """for i in range(start, stop, step): carried = body(i, *carried). Returns the last `carried`."""
        b = self.builder
        first, last = (self.integer(x) if isinstance(x, int) else x for x in (start, stop))
        before = b.block
        head, inside, after = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        phis = [b.phi(x.kind) for x in (first, *carried)]
        for phi, x in zip(phis, (first, *carried), strict=True):
            phi.add_incoming(x.raw, before)
        i, *values = (Value(b, phi) for phi in phis)
        b.cbranch((i < last).raw, inside, after)
        b.position_at_end(inside)
        updated = body(i, *values) or ()
        for phi, x in zip(phis, (i + step, *updated), strict=True):
            phi.add_incoming(x.raw, b.block)
        b.branch(head)
        b.position_at_end(after)
        return values

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """What is written inside is done only where the condition is true."""
        with self.builder.if_then(condition.raw):
            yield

    def add_lane_sums(self, vectors: Sequence[Value | None], array: Array) -> None:
        """array[i] += sum of the lanes of vectors[i]; None counts as zero.

        Halves of two vectors are added side by side, so that `lanes` sums take lanes - 1 additions instead of
        lanes * log2(lanes).
        """
        for first in range(0, len(vectors), self.lanes):
            group = [self.zero if x is None else x for x in vectors[first : first + self.lanes]]
            count = len(group)
            width = self.lanes
            group += [self.zero] * (self.lanes - count)
            while len(group) > 1:
                half, width = len(group) // 2, width // 2
                group = [self._folded(group[i], group[i + half], width) for i in range(half)]
            target = array + first
            if count == self.lanes:
                self.add_to(group[0], target, 0)
                continue
            for i in range(count):
                target[i] = target[i] + group[0].lane(i)

    def _folded(self, a: Value, b: Value, width: int) -> Value:
        """Lanes in blocks of 2 * width: the sums of the two halves of a's block, then those of b's."""
        low, high = [], []
        for block in range(0, self.lanes, 2 * width):
            for source in (0, self.lanes):
                low += [source + block + i for i in range(width)]
                high += [source + block + width + i for i in range(width)]
        kind = ir.VectorType(ir.IntType(32), self.lanes)
        halves = [self.builder.shuffle_vector(a.raw, b.raw, ir.Constant(kind, mask)) for mask in (low, high)]
        return Value(self.builder, halves[0]) + Value(self.builder, halves[1])

    def finish(self) -> Kernel:
        self.builder.ret_void()
        dtypes = {name: str(dtype).removeprefix("torch.") for name, dtype in self._dtypes.items()}
        facts = {"name": self.name, "dtypes": dtypes, "counts": list(self.counts), "sites": self._sites}
        return Kernel(Translation.of(facts, str(self.builder.module)))


class Kernel:
    """Machine code in memory; called with tensors and counts.

    Raises:
        TypeError: another number of tensors or counts than the kernel has, or if indices are checked another dtype.
        IndexError: a wrong index, if indices are checked.
    """

    def __init__(self, translation: Translation) -> None:
        facts, self.translation = translation.facts, translation
        self.name: str = facts["name"]
        self._counts: list[str] = facts["counts"]
        self._sites: list[str] | None = facts["sites"]
        self._dtypes: dict[str, torch.dtype] = {name: getattr(torch, kind) for name, kind in facts["dtypes"].items()}
        self._code = MachineCode(translation.code, self.name)
        self.address = self._code.address
        kinds = [ctypes.c_void_p] * len(self._dtypes) + [ctypes.c_int64] * (len(self._counts) + self.checked)
        self._call = ctypes.CFUNCTYPE(None, *kinds)(self.address)

    @property
    def text(self) -> str:
        """What LLVM made it of."""
        return self.translation.text

    @property
    def checked(self) -> bool:
        """Whether indices are; then the last argument is the address of `notes`."""
        return self._sites is not None

    def __call__(self, tensors: Sequence[Tensor], *counts: int) -> None:
        if self._sites is None and len(tensors) == len(self._dtypes) and len(counts) == len(self._counts):
            self._call(*[x.data_ptr() for x in tensors], *counts)
            return
        self.check_arguments(tensors, counts)
        notes = self.notes(tensors)
        self._call(*[x.data_ptr() for x in tensors], *counts, notes.data_ptr())
        self.raise_if_wrong(notes)

    def check_arguments(self, tensors: Sequence[Tensor], counts: Sequence[object]) -> None:
        """Raises TypeError where number, dtype or memory layout of the arguments are not those of the kernel."""
        for kind, given, wanted in (("arrays", tensors, self._dtypes), ("counts", counts, self._counts)):
            if len(given) != len(wanted):
                raise TypeError(
                    f"kernel `{self.name}` takes {len(wanted)} {kind} ({', '.join(wanted)}), not {len(given)}"
                )
        for tensor, (name, dtype) in zip(tensors, self._dtypes.items(), strict=True):
            if tensor.dtype != dtype or not tensor.is_contiguous():
                found = f"{tensor.dtype} {tuple(tensor.shape)} with strides {tensor.stride()}"
                raise TypeError(f"kernel `{self.name}` takes a contiguous {name} of {dtype}, not {found}")

    def notes(self, tensors: Sequence[Tensor]) -> Tensor:
        """Memory for what a checked kernel notes, and the lengths of its arrays."""
        return torch.tensor([0] * NOTES + [x.numel() for x in tensors])

    def raise_if_wrong(self, notes: Tensor) -> None:
        """Raises IndexError with what was noted."""
        raise_if_wrong(notes.tolist(), self._sites or ())


def built_once(build: Callable[P, Kernel]) -> Callable[P, Kernel]:
    """For a function that builds kernels: those that were built are remembered, and kept for other processes (kept.py).

    Kernels with checks are others than those without.
    """

    def found(*arguments: P.args, **options: P.kwargs) -> Kernel:
        given = (*arguments, *options.items())
        return Kernel(kept(lambda: build(*arguments, **options).translation, build, *given))

    without, with_checks = lru_cache(found), lru_cache(found)

    @wraps(build)
    def built(*arguments: P.args, **options: P.kwargs) -> Kernel:
        return (with_checks if checking() else without)(*arguments, **options)  # type: ignore[arg-type]

    return built
