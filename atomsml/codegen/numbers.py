"""Arithmetic on single float64 numbers in kernels, written with ordinary operators.

Geometry is a few hundred operations per edge, where convolutions take thousands: it is written for one edge at a time,
and in float64 whatever the network computes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from atomsml.codegen.vectors import I64, Code

DOUBLE = ir.DoubleType()


@dataclass(frozen=True)
class Number:
    """A value of float64 in a kernel under construction."""

    code: Code
    value: ir.Value

    def _of(self, other: Number | float) -> ir.Value:
        return other.value if isinstance(other, Number) else ir.Constant(DOUBLE, other)

    def __add__(self, other: Number | float) -> Number:
        return Number(self.code, self.code.builder.fadd(self.value, self._of(other)))

    def __sub__(self, other: Number | float) -> Number:
        return Number(self.code, self.code.builder.fsub(self.value, self._of(other)))

    def __mul__(self, other: Number | float) -> Number:
        return Number(self.code, self.code.builder.fmul(self.value, self._of(other)))

    def __rsub__(self, other: float) -> Number:
        return Number(self.code, self.code.builder.fsub(self._of(other), self.value))

    def __truediv__(self, other: Number) -> Number:
        return Number(self.code, self.code.builder.fdiv(self.value, other.value))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Number:
        return Number(self.code, self.code.builder.fneg(self.value))

    def inverse(self) -> Number:
        return constant(self.code, 1.0) / self

    def sqrt(self) -> Number:
        return self._function("llvm.sqrt.f64")

    def exp(self) -> Number:
        return self._function("llvm.exp.f64")

    def _function(self, name: str) -> Number:
        function = self.code.intrinsic(name, ir.FunctionType(DOUBLE, [DOUBLE]))
        return Number(self.code, self.code.builder.call(function, [self.value]))

    def below(self, other: Number) -> ir.Value:
        """Whether it is less than another; also true where either is not a number."""
        return self.code.builder.fcmp_unordered("<", self.value, other.value)

    def floor(self) -> ir.Value:
        """The int64 next to zero; 0 where it is not a number."""
        function = ir.FunctionType(I64, [DOUBLE])
        return self.code.builder.call(self.code.intrinsic("llvm.fptosi.sat.i64.f64", function), [self.value])


def constant(code: Code, value: float) -> Number:
    return Number(code, ir.Constant(DOUBLE, value))


def total(terms: Iterable[Number], code: Code) -> Number:
    """The sum of some numbers; 0 of none."""
    result: Number | None = None
    for term in terms:
        result = term if result is None else result + term
    return constant(code, 0.0) if result is None else result


def from_integer(code: Code, value: ir.Value) -> Number:
    return Number(code, code.builder.sitofp(value, DOUBLE))


def load(code: Code, name: str, row: ir.Value, width: int) -> list[Number]:
    """A row of an array (rows, width), whatever its floating-point type."""
    b, start = code.builder, code.row(code[name], row, width)
    values = [b.load(b.gep(start, [I64(i)])) for i in range(width)]
    return [Number(code, x if x.type == DOUBLE else b.fpext(x, DOUBLE)) for x in values]


def store(values: Sequence[Number], code: Code, name: str, row: ir.Value) -> None:
    """Fill a row of an array (rows, len(values))."""
    b, start = code.builder, code.row(code[name], row, len(values))
    for i, number in enumerate(values):
        address = b.gep(start, [I64(i)])
        same = address.type.pointee == DOUBLE
        b.store(number.value if same else b.fptrunc(number.value, address.type.pointee), address)
