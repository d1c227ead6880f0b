"""Kernels written as instructions on vectors of channels, and compiled by LLVM to machine code of this processor.

An operation that runs the same arithmetic for every channel is written out once for a vector of `lanes` neighbouring
channels: what is known beforehand (paths, coefficients, numbers of rows and channels) becomes straight-line code with
constant addresses, what is not (atoms, edges) becomes loops. LLVM comes as the wheel of llvmlite, so that nobody
needs a compiler. Written like this a kernel does not depend on what a compiler makes of loops, and is
quick to compile, since no time goes into proving that arrays do not overlap.

Arrays are contiguous; their element type is the `dtype` of the kernel, of indices int64.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import Lock

import torch
from llvmlite import binding, ir
from torch.nn.functional import pad

COMPILER = Lock()  # LLVM compiles for one thread at a time
I32, I64 = ir.IntType(32), ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()


def target_machine() -> binding.TargetMachine:
    """The processor at hand, with 512-bit vectors where it has them (LLVM would rather split those).

    Each compiled module needs its own, because it takes it along when it is freed.
    """
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"
    target = binding.Target.from_default_triple()
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=2, jit=True)


@lru_cache
def lanes(dtype: torch.dtype) -> int:
    """Numbers in one vector register."""
    features = binding.get_host_cpu_features()
    register = 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
    return register // dtype.itemsize


@lru_cache
def registers() -> int:
    """Number of vector registers."""
    return 32 if binding.get_host_cpu_features().get("avx512f") or "aarch64" in target_machine().triple else 16


def whole_vectors(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, with channels (the last axis) of zeros that fill the last vector."""
    missing = -x.shape[-1] % lanes(x.dtype)
    return pad(x, (0, missing)) if missing else x.contiguous()


class Code:
    """The body of one kernel while it is written: `void name(pointers..., counts...)`.

    Args:
        name: of the function.
        pointers: names of its arrays; those of int64 end in "_index", those always of float64 in "_double".
        counts: names of its int64 arguments.
        dtype: of all other arrays, torch.float32 or torch.float64.
    """

    def __init__(self, name: str, pointers: Sequence[str], counts: Sequence[str], dtype: torch.dtype) -> None:
        self.name, self.num_pointers, self.num_counts = name, len(pointers), len(counts)
        self.lanes = lanes(dtype)
        self.bytes = dtype.itemsize
        self.scalar = ir.FloatType() if dtype == torch.float32 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.module = ir.Module(name)
        kinds = {"index": I64, "double": ir.DoubleType()}
        types = [kinds.get(name.rpartition("_")[2], self.scalar).as_pointer() for name in pointers]
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), types + [I64] * len(counts)), name)
        for argument in function.args[: len(pointers)]:
            argument.add_attribute("noalias")
        self.arguments = dict(zip([*pointers, *counts], function.args, strict=True))
        self.builder = ir.IRBuilder(function.append_basic_block())
        self._intrinsics: dict[str, ir.Function] = {}
        kind = "f32" if dtype == torch.float32 else "f64"
        three = ir.FunctionType(self.vector, [self.vector] * 3)
        self._fma = self.intrinsic(f"llvm.fmuladd.v{self.lanes}{kind}", three)
        ask = ir.FunctionType(ir.VoidType(), [BYTES, I32, I32, I32])
        self._prefetch = self.intrinsic("llvm.prefetch.p0", ask)
        self.zero = ir.Constant(self.vector, None)

    def __getitem__(self, name: str) -> ir.Value:
        return self.arguments[name]

    def intrinsic(self, name: str, kind: ir.FunctionType) -> ir.Function:
        """A function that LLVM provides."""
        if name not in self._intrinsics:
            self._intrinsics[name] = ir.Function(self.module, kind, name)
        return self._intrinsics[name]

    def constant(self, value: float) -> ir.Value:
        """A vector of equal numbers."""
        return ir.Constant(self.vector, [value] * self.lanes)

    def integer(self, pointer: ir.Value, index: ir.Value) -> ir.Value:
        return self.builder.load(self.builder.gep(pointer, [index]))

    def times(self, a: ir.Value, b: int) -> ir.Value:
        return self.builder.mul(a, I64(b))

    def row(self, pointer: ir.Value, index: ir.Value, length: int, offset: ir.Value | None = None) -> ir.Value:
        """Address of element `index * length + offset`."""
        start = self.times(index, length)
        return self.builder.gep(pointer, [start if offset is None else self.builder.add(start, offset)])

    def load(self, pointer: ir.Value, offset: int) -> ir.Value:
        """The vector that starts `offset` elements after an address."""
        return self.builder.load(self._vector_pointer(pointer, offset), align=self.bytes)

    def splat(self, pointer: ir.Value, offset: int) -> ir.Value:
        """The one number at an address, in all lanes."""
        value = self.builder.load(self.builder.gep(pointer, [I64(offset)]))
        first = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), value, I32(0))
        mask = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, ir.Constant(self.vector, ir.Undefined), mask)

    def store(self, value: ir.Value, pointer: ir.Value, offset: int) -> None:
        self.builder.store(value, self._vector_pointer(pointer, offset), align=self.bytes)

    def prefetch(self, pointer: ir.Value, offset: int) -> None:
        """Ask for a line of memory that will be read soon."""
        address = self.builder.bitcast(self.builder.gep(pointer, [I64(offset)]), BYTES)
        self.builder.call(self._prefetch, [address, I32(0), I32(3), I32(1)])  # to read, keep close, data

    def add_to(self, value: ir.Value, pointer: ir.Value, offset: int) -> None:
        self.store(self.add(self.load(pointer, offset), value), pointer, offset)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fadd(a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fmul(a, b)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value | None) -> ir.Value:
        """a b + c; None counts as zero."""
        return self.mul(a, b) if c is None else self.builder.call(self._fma, [a, b, c])

    def loop(
        self,
        start: ir.Value,
        stop: ir.Value,
        body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
        carried: Sequence[ir.Value] = (),
        step: int = 1,
    ) -> list[ir.Value]:
        """for i in range(start, stop, step): carried = body(i, carried). Returns the last `carried`."""
        b = self.builder
        before = b.block
        head, inside, after = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(start, before)
        values = [b.phi(x.type) for x in carried]
        for phi, x in zip(values, carried, strict=True):
            phi.add_incoming(x, before)
        b.cbranch(b.icmp_signed("<", i, stop), inside, after)
        b.position_at_end(inside)
        updated = body(i, values)
        i.add_incoming(b.add(i, I64(step)), b.block)
        for phi, x in zip(values, updated, strict=True):
            phi.add_incoming(x, b.block)
        b.branch(head)
        b.position_at_end(after)
        return values

    def add_lane_sums(self, vectors: Sequence[ir.Value], pointer: ir.Value) -> None:
        """pointer[i] += sum of the lanes of vectors[i].

        Halves of two vectors are added side by side, so that `lanes` sums take lanes - 1 additions instead of
        lanes * log2(lanes).
        """
        for first in range(0, len(vectors), self.lanes):
            group = list(vectors[first : first + self.lanes])
            count = len(group)
            width = self.lanes
            group += [self.zero] * (self.lanes - count)
            while len(group) > 1:
                half, width = len(group) // 2, width // 2
                group = [self._folded(group[i], group[i + half], width) for i in range(half)]
            target = self.builder.gep(pointer, [I64(first)])
            if count == self.lanes:
                self.add_to(group[0], target, 0)
                continue
            for i in range(count):
                element = self.builder.gep(target, [I64(i)])
                value = self.builder.extract_element(group[0], I32(i))
                self.builder.store(self.builder.fadd(self.builder.load(element), value), element)

    def _folded(self, a: ir.Value, b: ir.Value, width: int) -> ir.Value:
        """Lanes in blocks of 2 * width: the sums of the two halves of a's block, then those of b's."""
        low, high = [], []
        for block in range(0, self.lanes, 2 * width):
            for source in (0, self.lanes):
                low += [source + block + i for i in range(width)]
                high += [source + block + width + i for i in range(width)]
        mask_type = ir.VectorType(I32, self.lanes)
        halves = [self.builder.shuffle_vector(a, b, ir.Constant(mask_type, mask)) for mask in (low, high)]
        return self.add(*halves)

    def _vector_pointer(self, pointer: ir.Value, offset: int) -> ir.Value:
        return self.builder.bitcast(self.builder.gep(pointer, [I64(offset)]), self.vector.as_pointer())

    def finish(self) -> Kernel:
        self.builder.ret_void()
        return Kernel(self.name, str(self.module), self.num_pointers, self.num_counts)


class Kernel:
    """Machine code in memory; called with tensors and counts."""

    def __init__(self, name: str, source: str, num_pointers: int, num_counts: int) -> None:
        with COMPILER:
            self._engine = binding.create_mcjit_compiler(binding.parse_assembly(source), target_machine())
            self._engine.finalize_object()  # the engine owns the code
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * num_pointers, *[ctypes.c_int64] * num_counts)
        self.address = self._engine.get_function_address(name)
        self._call = kind(self.address)

    def __call__(self, tensors: Sequence[torch.Tensor], *counts: int) -> None:
        self._call(*[x.data_ptr() for x in tensors], *counts)
