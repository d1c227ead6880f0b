"""Numbers of a kernel under construction: their operators write instructions.

    y = 0.5 * x * (1.0 + t)

with values x and t writes three multiplications and additions, and y is the value that they will have. Every value has
a kind: INT, FLOAT, DOUBLE or BOOL, or a vector of FLOAT or DOUBLE. Where two kinds meet, the result has the wider one,
in the order BOOL, INT, FLOAT, DOUBLE; numbers of Python take the kind of what they meet, unless a float meets integers.
Vectors meet only vectors and numbers of Python. The rules are Python's, with the exceptions of numpy: integers have 64
bits, and dividing by zero gives inf, nan or, of integers, 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import TypeAlias

from llvmlite import ir

INT, DOUBLE, FLOAT, BOOL = ir.IntType(64), ir.DoubleType(), ir.FloatType(), ir.IntType(1)
LANE = ir.IntType(32)  # LLVM counts the lanes of vectors in these
WIDTHS = {BOOL: 0, INT: 1, FLOAT: 2, DOUBLE: 3}
NAMES = {BOOL: "bool", INT: "int", FLOAT: "float32", DOUBLE: "float"}

Operand: TypeAlias = "Value | float"


class Value:
    """A number, or a vector of numbers, that a kernel will compute."""

    __slots__ = ("builder", "raw")

    def __init__(self, builder: ir.IRBuilder, raw: ir.Value) -> None:
        self.builder, self.raw = builder, raw

    @property
    def kind(self) -> ir.Type:
        return self.raw.type

    def __bool__(self) -> bool:
        raise TypeError("what a value will be is not known while the kernel is written; use select, or Code.when")

    def __add__(self, other: Operand) -> Value:
        return self._arithmetic(other, "add", "fadd")

    def __sub__(self, other: Operand) -> Value:
        return self._arithmetic(other, "sub", "fsub")

    def __mul__(self, other: Operand) -> Value:
        return self._arithmetic(other, "mul", "fmul")

    def __rsub__(self, other: float) -> Value:
        return self._as_value(other) - self

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Operand) -> Value:
        a, b = self._alike(other)
        if not is_floating(a.kind):
            a, b = a.to(DOUBLE), b.to(DOUBLE)
        return self._made(self.builder.fdiv(a.raw, b.raw))

    def __rtruediv__(self, other: float) -> Value:
        return self._as_value(other) / self

    def __floordiv__(self, other: Operand) -> Value:
        """Rounded down, of integers; 0 where `other` is 0."""
        a, b = self._integers(other, "//")
        inverted = b.compare("==", -1)  # the least integer by -1 and anything by 0 would stop the process
        divisor = (inverted | b.compare("==", 0)).select(1, b)
        quotient = self._made(self.builder.sdiv(a.raw, divisor.raw))
        rest = self._made(self.builder.srem(a.raw, divisor.raw))
        below = rest.compare("!=", 0) & ((rest ^ divisor) < 0)
        return b.compare("==", 0).select(0, inverted.select(-a, quotient - below))

    def __mod__(self, other: Operand) -> Value:
        """a - (a // b) b, of integers; 0 where `other` is 0."""
        a, b = self._integers(other, "%")
        return b.compare("==", 0).select(0, a - (a // b) * b)

    def __and__(self, other: Operand) -> Value:
        return self._bits(other, "and_")

    def __or__(self, other: Operand) -> Value:
        return self._bits(other, "or_")

    def __xor__(self, other: Operand) -> Value:
        return self._bits(other, "xor")

    def __lshift__(self, other: Operand) -> Value:
        a, b = self._integers(other, "<<")
        return self._made(self.builder.shl(a.raw, b.raw))

    def __rshift__(self, other: Operand) -> Value:
        a, b = self._integers(other, ">>")
        return self._made(self.builder.ashr(a.raw, b.raw))

    def __neg__(self) -> Value:
        if is_floating(self.kind):
            return self._made(self.builder.fneg(self.raw))
        return self._made(self.builder.neg(self.to(INT).raw))

    def __invert__(self) -> Value:
        """Not, of a truth value; of integers every bit."""
        if is_floating(self.kind):
            raise TypeError(f"~ needs an int or a bool, not a {name_of(self.kind)}")
        return self._made(self.builder.not_(self.raw))

    def __lt__(self, other: Operand) -> Value:
        return self.compare("<", other)

    def __le__(self, other: Operand) -> Value:
        return self.compare("<=", other)

    def __gt__(self, other: Operand) -> Value:
        return self.compare(">", other)

    def __ge__(self, other: Operand) -> Value:
        return self.compare(">=", other)

    def compare(self, op: str, other: Operand) -> Value:
        """`op` is one of < <= > >= == !=; of what is not a number only the last is true."""
        a, b = self._alike(other, INT)
        if not is_floating(a.kind):
            return self._made(self.builder.icmp_signed(op, a.raw, b.raw))
        compare = self.builder.fcmp_unordered if op == "!=" else self.builder.fcmp_ordered
        return self._made(compare(op, a.raw, b.raw))

    def select(self, yes: Operand, no: Operand) -> Value:
        """`yes` where this is true, else `no`; both are computed."""
        first = yes if isinstance(yes, Value) else self._as_value(yes)
        a, b = first._alike(no)
        return self._made(self.builder.select(self.raw, a.raw, b.raw))

    def least(self, other: Operand) -> Value:
        """As Python's min: of equal ones, or where one is not a number, the first."""
        a, b = self._alike(other, INT)
        return (b < a).select(b, a)

    def greatest(self, other: Operand) -> Value:
        a, b = self._alike(other, INT)
        return (b > a).select(b, a)

    def __abs__(self) -> Value:
        return self._function("fabs") if is_floating(self.kind) else self.greatest(-self)

    def sqrt(self) -> Value:
        return self._function("sqrt")

    def exp(self) -> Value:
        return self._function("exp")

    def floor(self) -> Value:
        """The next integer below, of the same kind."""
        return self._function("floor") if is_floating(self.kind) else self.to(INT)

    def ceil(self) -> Value:
        return self._function("ceil") if is_floating(self.kind) else self.to(INT)

    def truncated(self) -> Value:
        """As INT without what is behind the point; undefined where that has no 64 bits."""
        return self._made(self.builder.fptosi(self.raw, INT)) if is_floating(self.kind) else self.to(INT)

    def saturated(self) -> Value:
        """The same; the INT closest to it where that has no 64 bits, and 0 where it is not a number."""
        function = _intrinsic(self.builder, "fptosi.sat.i64", INT, [self.kind])
        return self._made(self.builder.call(function, [self.raw]))

    def splat(self, lanes: int) -> Value:
        """A vector of equal numbers."""
        vector, mask = ir.VectorType(self.kind, lanes), ir.VectorType(LANE, lanes)
        nothing = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(nothing, self.raw, LANE(0))
        return self._made(self.builder.shuffle_vector(first, nothing, ir.Constant(mask, [0] * lanes)))

    def lane(self, i: int) -> Value:
        """One number of a vector."""
        return self._made(self.builder.extract_element(self.raw, LANE(i)))

    def to(self, kind: ir.Type) -> Value:
        """As another kind, which may round.

        Raises:
            TypeError: from floats to integers, see `truncated`; to and from vectors.
        """
        mine = self.kind
        if mine == kind:
            return self
        if mine not in WIDTHS or kind not in WIDTHS or kind == BOOL or (kind == INT and is_floating(mine)):
            raise TypeError(f"{name_of(mine)} does not become {name_of(kind)} by itself")
        if mine == BOOL:
            convert = self.builder.zext if kind == INT else self.builder.uitofp
        elif mine == INT:
            convert = self.builder.sitofp
        else:
            convert = self.builder.fpext if kind == DOUBLE else self.builder.fptrunc
        return self._made(convert(self.raw, kind))

    def _made(self, raw: ir.Value) -> Value:
        return Value(self.builder, raw)

    def _as_value(self, number: float) -> Value:
        """A number of Python, of this kind if it can be."""
        kind = self.kind
        if not is_floating(kind):
            kind = DOUBLE if isinstance(number, float) else BOOL if isinstance(number, bool) else INT
        return constant(self.builder, number, kind)

    def _alike(self, other: Operand, least: ir.Type = BOOL) -> tuple[Value, Value]:
        """This and another one as the wider of their kinds, and of `least`."""
        if not isinstance(other, Value):
            other = self._as_value(other)
        a, b = self.kind, other.kind
        if a == b and (a != BOOL or least == BOOL):
            return self, other
        if a not in WIDTHS or b not in WIDTHS:
            raise TypeError(f"{name_of(a)} does not go together with {name_of(b)}")
        kind = max(a, b, least, key=WIDTHS.__getitem__)
        return self.to(kind), other.to(kind)

    def _arithmetic(self, other: Operand, integers: str, floats: str) -> Value:
        a, b = self._alike(other, INT)
        return self._made(getattr(self.builder, floats if is_floating(a.kind) else integers)(a.raw, b.raw))

    def _integers(self, other: Operand, op: str) -> tuple[Value, Value]:
        a, b = self._alike(other, INT)
        if a.kind != INT:
            raise TypeError(f"{op} needs integers, not a {name_of(a.kind)}; use floor(), int() or /")
        return a, b

    def _bits(self, other: Operand, instruction: str) -> Value:
        a, b = self._alike(other)
        if is_floating(a.kind):
            raise TypeError(f"&, | and ^ need integers or truth values, not a {name_of(a.kind)}")
        return self._made(getattr(self.builder, instruction)(a.raw, b.raw))

    def _function(self, name: str) -> Value:
        x = self if is_floating(self.kind) else self.to(DOUBLE)
        return self._made(self.builder.call(_intrinsic(self.builder, name, x.kind, [x.kind]), [x.raw]))


def constant(builder: ir.IRBuilder, number: float, kind: ir.Type) -> Value:
    """A number of Python; in all lanes of a vector."""
    of_vector = isinstance(kind, ir.VectorType)
    return Value(builder, ir.Constant(kind, [number] * kind.count if of_vector else number))


def fma(a: Value, b: Value, c: Value | None) -> Value:
    """a b + c, rounded once where the processor can; None counts as zero."""
    if c is None:
        return a * b
    function = _intrinsic(a.builder, "fmuladd", a.kind, [a.kind] * 3)
    return Value(a.builder, a.builder.call(function, [a.raw, b.raw, c.raw]))


def dot(pairs: Iterable[tuple[Value, Value]]) -> Value:
    """The sum of their products, one after the other; there must be one."""
    result: Value | None = None
    for a, b in pairs:
        result = fma(a, b, result)
    assert result is not None
    return result


def total(terms: Iterable[Value]) -> Value:
    """Their sum; there must be one."""
    return reduce(add, terms)


def is_floating(kind: ir.Type) -> bool:
    return isinstance(kind, ir.FloatType | ir.DoubleType | ir.VectorType)


def name_of(kind: ir.Type) -> str:
    return NAMES.get(kind, str(kind))


def _intrinsic(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    """A function that LLVM provides for this kind of number."""
    kind = arguments[0]
    lanes, element = (f"v{kind.count}", kind.element) if isinstance(kind, ir.VectorType) else ("", kind)
    full = f"llvm.{name}.{lanes}{'f64' if element == DOUBLE else 'f32'}"
    found = builder.module.globals.get(full)
    return found or ir.Function(builder.module, ir.FunctionType(result, arguments), full)
