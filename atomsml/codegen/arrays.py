"""Arrays of a kernel under construction: `x[i]` writes a load, `x[i] = y` a store."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from atomsml.codegen.checks import Guard
from atomsml.codegen.values import BOOL, DOUBLE, INT, Value, constant, name_of

BYTE = ir.IntType(8)  # what holds a truth value in memory
LOADS = {"prefetch": [BYTE.as_pointer(), *[ir.IntType(32)] * 3]}


class Array:
    """Numbers of one kind from some place in memory on; `x + 3` begins three numbers later.

    Args:
        name: in what is said of a wrong index.
        address: of the first number.
        guard, length, place: for checked indices, the numbers in the whole array, and where among them this begins.
    """

    __slots__ = ("address", "builder", "guard", "length", "name", "place")

    def __init__(
        self,
        name: str,
        builder: ir.IRBuilder,
        address: ir.Value,
        guard: Guard | None = None,
        length: Value | None = None,
        place: Value | None = None,
    ) -> None:
        self.name, self.builder, self.address = name, builder, address
        self.guard, self.length, self.place = guard, length, place

    @property
    def kind(self) -> ir.Type:
        return self.address.type.pointee

    def __add__(self, offset: Value | int) -> Array:
        address = self.builder.gep(self.address, [self._whole(offset)])
        place = self.place + offset if self.place is not None else None
        return Array(self.name, self.builder, address, self.guard, self.length, place)

    def row(self, index: Value, length: int | Value, offset: Value | int = 0) -> Array:
        """From element `index * length + offset` on."""
        start = index * length
        return self + (start if isinstance(offset, int) and offset == 0 else start + offset)

    def __getitem__(self, index: Value | int) -> Value:
        value = Value(self.builder, self.builder.load(self._element(index)))
        return Value(self.builder, self.builder.icmp_signed("!=", value.raw, BYTE(0))) if value.kind == BYTE else value

    def __setitem__(self, index: Value | int, value: Value) -> None:
        """Floats are rounded to the kind of the array; TypeError where they would become integers."""
        if self.kind == BYTE:
            if value.kind != BOOL:
                raise TypeError(f"{name_of(value.kind)} does not become bool by itself")
            self.builder.store(self.builder.zext(value.raw, BYTE), self._element(index))
        else:
            self.builder.store(value.to(self.kind).raw, self._element(index))

    def doubles(self, number: int) -> list[Value]:
        """The first numbers as DOUBLE."""
        return [self[i].to(DOUBLE) for i in range(number)]

    def fill(self, values: Sequence[Value]) -> None:
        """The first numbers become these."""
        for i, value in enumerate(values):
            self[i] = value

    def vector(self, index: int, lanes: int) -> Value:
        """The vector that begins at an element."""
        return Value(self.builder, self.builder.load(self._vector(index, lanes), align=self._bytes()))

    def set_vector(self, vector: Value, index: int) -> None:
        self.builder.store(vector.raw, self._vector(index, vector.kind.count), align=self._bytes())

    def prefetch(self, index: int) -> None:
        """Ask for a line of memory that will be read soon."""
        name, kinds = "llvm.prefetch.p0", LOADS["prefetch"]
        found = self.builder.module.globals.get(name)
        function = found or ir.Function(self.builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
        line = self.builder.bitcast(self.builder.gep(self.address, [INT(index)]), kinds[0])
        self.builder.call(function, [line, *(kind(x) for kind, x in zip(kinds[1:], (0, 3, 1), strict=True))])

    def _bytes(self) -> int:
        return 8 if self.kind == DOUBLE else 4

    def _vector(self, index: int, lanes: int) -> ir.Value:
        return self.builder.bitcast(self._element(index, lanes), ir.VectorType(self.kind, lanes).as_pointer())

    def _element(self, index: Value | int, count: int = 1) -> ir.Value:
        raw = self._whole(index)
        if self.guard is not None and self.length is not None:
            here = Value(self.builder, raw)
            self.guard.check(self.name, here if self.place is None else self.place + here, count, self.length)
        return self.builder.gep(self.address, [raw])

    def _whole(self, index: Value | int) -> ir.Value:
        if not isinstance(index, Value):
            return constant(self.builder, index, INT).raw
        if index.kind not in (INT, BOOL):
            raise TypeError(f"an index is an int, not a {name_of(index.kind)}; use int() or floor()")
        return index.to(INT).raw
