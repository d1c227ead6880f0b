"""Expressions of a Python function as instructions, for `@compiled` (loops.py)."""

from __future__ import annotations

import ast
import builtins
import math
import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce
from types import FunctionType, ModuleType
from typing import Any, NoReturn, get_type_hints

from llvmlite import ir

from atomsml.codegen.arrays import BYTE, Array
from atomsml.codegen.checks import Guard
from atomsml.codegen.values import BOOL, DOUBLE, INT, Value, constant, name_of

Translate = Callable[[object], tuple[FunctionType, ir.Function] | None]
ARITHMETIC: dict[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
OF_ONE: dict[Any, Callable[[Value], Value]] = {
    int: Value.truncated,
    float: lambda x: x.to(DOUBLE),
    bool: lambda x: x.compare("!=", 0),
    abs: abs,
    math.sqrt: Value.sqrt,
    math.floor: lambda x: x.floor().truncated(),
    math.ceil: lambda x: x.ceil().truncated(),
}
OF_SEVERAL: dict[Any, Callable[[Value, Value], Value]] = {min: Value.least, max: Value.greatest}


class Expressions:
    """The names of one function, and the values of its expressions.

    Variables have places in memory, which LLVM turns into registers.

    Args:
        function: what is translated.
        entry: what it becomes.
        parameters: names of its arguments; fields of NamedTuples are called `tuple.field`.
        translate: what another compiled function was and becomes, None of anything else.
        sites: None, or descriptions of the places where indices are checked.
        builder: of instructions.
    """

    def __init__(
        self,
        function: FunctionType,
        entry: ir.Function,
        parameters: Sequence[str],
        translate: Translate,
        sites: list[str] | None,
        builder: type[ir.IRBuilder],
    ) -> None:
        self.function, self.parameters, self.translate = function, parameters, translate
        self.name, self.line = f"{function.__module__}.{function.__qualname__}", 0
        self.places = ir.IRBuilder(entry.append_basic_block())
        self.builder = builder(entry.append_basic_block())
        self.locals: set[str] = set()
        self.variables: dict[str, ir.Value] = {}
        self.assigned: set[str] | None = set()  # names that surely have a value here; None where nobody ever comes
        given = {name: Value(self.builder, x) for name, x in zip(parameters, entry.args, strict=False)}
        self.arrays = {name: x for name, x in given.items() if x.kind.is_pointer}
        lengths = (Value(self.builder, x) for x in entry.args[len(parameters) :])
        self.lengths = dict(zip(self.arrays, lengths, strict=False))
        self.guard: Guard | None = None
        if sites is not None:
            self.guard = Guard(self.builder, Value(self.builder, entry.args[-1]), sites)
        for name, x in given.items():
            if name in self.arrays:
                x.raw.add_attribute("noalias")
            else:
                self.set_variable(name, x)

    def refuse(self, why: str) -> NoReturn:
        raise SyntaxError(f"{self.name}, line {self.line}: {why}")

    def blocks(self, number: int) -> list[ir.Block]:
        return [self.builder.append_basic_block() for _ in range(number)]

    def set_variable(self, name: str, value: Value) -> None:
        if name in self.arrays or name in self.parameters_of_tuples():
            self.refuse(f"{name} is an array or a NamedTuple, which stay what they are")
        if name not in self.variables:
            self.variables[name] = self.places.alloca(value.kind)
        place = self.variables[name]
        self.builder.store(self.converted(value, place.type.pointee, name).raw, place)
        if self.assigned is not None:
            self.assigned.add(name)

    def parameters_of_tuples(self) -> set[str]:
        return {name.partition(".")[0] for name in self.parameters if "." in name}

    def converted(self, value: Value, kind: ir.Type, what: str) -> Value:
        """As another kind that holds the same number."""
        if kind in (value.kind, BYTE) or value.kind == BOOL != kind or (value.kind == INT and kind == DOUBLE):
            return value if kind == BYTE else value.to(kind)
        raise TypeError(f"{what} is {name_of(kind)}, not {name_of(value.kind)}; use int(), float() or bool()")

    def value(self, node: ast.expr) -> Value:
        found = getattr(self, f"of_{type(node).__name__}", None)
        if found is None:
            self.refuse(f"cannot compile {ast.unparse(node)!r}")
        value: Value = found(node)
        return value

    def truth(self, node: ast.expr) -> Value:
        value = self.value(node)
        if value.kind != BOOL:
            self.refuse(f"{ast.unparse(node)!r} is not a truth value; write {ast.unparse(node)} != 0")
        return value

    def of_Constant(self, node: ast.Constant) -> Value:
        return self.number(node.value, ast.unparse(node))

    def number(self, value: object, what: str) -> Value:
        kind = {int: INT, float: DOUBLE, bool: BOOL}.get(type(value))
        if kind is None or (isinstance(value, int) and not -(2**63) <= value < 2**63):
            self.refuse(f"{what} is no number of 64 bits")
        return constant(self.builder, value, kind)  # type: ignore[arg-type]

    def of_Name(self, node: ast.Name | ast.Attribute) -> Value:
        name = ast.unparse(node)
        if name in self.arrays:
            self.refuse(f"{name} is an array; take an element of it")
        if name in self.variables and (self.assigned is None or name in self.assigned):
            return Value(self.builder, self.builder.load(self.variables[name]))
        return self.number(self.from_outside(node), name)

    of_Attribute = of_Name

    def from_outside(self, node: ast.expr) -> object:
        """What a global or built-in name, or an attribute of a module, stands for."""
        if isinstance(node, ast.Attribute):
            module = self.from_outside(node.value)
            if isinstance(module, ModuleType) and node.attr in vars(module):
                return vars(module)[node.attr]
        elif isinstance(node, ast.Name):
            if node.id in self.locals or node.id in self.function.__code__.co_varnames:
                self.refuse(f"{node.id} may have no value here")
            for names in (self.function.__globals__, vars(builtins)):
                if node.id in names and node.id not in self.function.__code__.co_freevars:
                    return names[node.id]
        self.refuse(f"{ast.unparse(node)!r} is neither a variable nor a global name")

    def element(self, node: ast.Subscript) -> tuple[Array, Value]:
        """The array and the index."""
        name = ast.unparse(node.value)
        if name not in self.arrays:
            self.refuse(f"{name} is not an array")
        index = self.value(node.slice)
        if isinstance(node.slice, ast.UnaryOp) and isinstance(node.slice.op, ast.USub):
            self.refuse(f"{ast.unparse(node)}: indices do not count from the end")
        site = f"{self.name}, line {self.line}: {name}"
        return Array(site, self.builder, self.arrays[name].raw, self.guard, self.lengths.get(name)), index

    def of_Subscript(self, node: ast.Subscript) -> Value:
        array, index = self.element(node)
        return array[index]

    def of_UnaryOp(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            return ~self.truth(node.operand)
        value = self.value(node.operand)
        if isinstance(node.op, ast.USub):
            return -value
        if isinstance(node.op, ast.Invert):
            return ~value.to(INT) if value.kind == BOOL else ~value
        return value.to(INT) if value.kind == BOOL else value

    def of_BinOp(self, node: ast.BinOp) -> Value:
        return self.operation(node.op)(self.value(node.left), self.value(node.right))

    def operation(self, op: ast.operator) -> Callable[[Value, Value], Value]:
        if type(op) not in ARITHMETIC:
            self.refuse(f"there is no {'**; multiply' if isinstance(op, ast.Pow) else type(op).__name__}")
        return ARITHMETIC[type(op)]

    def of_BoolOp(self, node: ast.BoolOp) -> Value:
        return self.lazily(node.op, [partial(self.truth, part) for part in node.values])

    def of_Compare(self, node: ast.Compare) -> Value:
        """a < b < c is a < b and b < c, with b computed once."""
        left = self.value(node.left)

        def comparison(op: ast.cmpop, right: ast.expr) -> Value:
            nonlocal left
            if type(op) not in COMPARISONS:
                self.refuse(f"cannot compile {ast.unparse(node)!r}")
            a, left = left, self.value(right)
            return a.compare(COMPARISONS[type(op)], left)

        pairs = zip(node.ops, node.comparators, strict=True)
        return self.lazily(ast.And(), [partial(comparison, *pair) for pair in pairs])

    def lazily(self, op: ast.boolop, parts: Sequence[Callable[[], Value]]) -> Value:
        """And or or; what follows is evaluated only where it decides."""
        if len(parts) == 1:
            return parts[0]()
        result = self.places.alloca(BOOL)
        (after,) = self.blocks(1)
        for part in parts:
            (more,) = self.blocks(1)
            value = part().raw
            self.builder.store(value, result)
            self.builder.cbranch(value, *((more, after) if isinstance(op, ast.And) else (after, more)))
            self.builder.position_at_end(more)
        self.builder.branch(after)
        self.builder.position_at_end(after)
        return Value(self.builder, self.builder.load(result))

    def of_IfExp(self, node: ast.IfExp) -> Value:
        test = self.truth(node.test)
        sides = [node.body, node.orelse]
        if not any(isinstance(x, ast.Subscript | ast.Call) for side in sides for x in ast.walk(side)):
            return test.select(*(self.value(side) for side in sides))  # computing both does no harm
        *starts, after = self.blocks(3)
        self.builder.cbranch(test.raw, *starts)
        values, ends = [], []
        for start, side in zip(starts, sides, strict=True):
            self.builder.position_at_end(start)
            values.append(self.value(side))
            ends.append(self.builder.block)
        kind = max((x.kind for x in values), key=[BOOL, INT, DOUBLE].index)
        for i, end in enumerate(ends):
            self.builder.position_at_end(end)
            values[i] = values[i].to(kind)
            self.builder.branch(after)
        self.builder.position_at_end(after)
        result = self.builder.phi(kind)
        for x, end in zip(values, ends, strict=True):
            result.add_incoming(x.raw, end)
        return Value(self.builder, result)

    def of_Call(self, node: ast.Call) -> Value:
        value = self.call(node)
        if isinstance(value.kind, ir.VoidType):
            self.refuse(f"{ast.unparse(node)!r} has no value")
        return value

    def call(self, node: ast.Call) -> Value:
        found, what = self.from_outside(node.func), repr(ast.unparse(node))
        if node.keywords or any(isinstance(x, ast.Starred) for x in node.args):
            self.refuse(f"{what}: arguments are given one by one, without names")
        other = self.translate(found)
        if other is not None:
            return self.call_compiled(node, *other)
        number = len(node.args)
        if found in OF_ONE and number == 1:
            return OF_ONE[found](self.value(node.args[0]))
        if found in OF_SEVERAL and number > 1:
            return reduce(OF_SEVERAL[found], [self.value(x) for x in node.args])
        known = found in OF_ONE or found in OF_SEVERAL
        self.refuse(f"{what}: {'the number of arguments is wrong' if known else 'this function is not compiled'}")

    def call_compiled(self, node: ast.Call, function: FunctionType, entry: ir.Function) -> Value:
        hints = get_type_hints(function)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        if len(names) != len(node.args):
            self.refuse(
                f"{ast.unparse(node)!r}: {function.__name__} takes {len(names)} arguments, not {len(node.args)}"
            )
        given: list[Value] = []
        lengths: list[Value] = []
        for name, argument in zip(names, node.args, strict=True):
            given += self.argument(argument, f"{name} of {function.__name__}", hints[name], lengths)
        notes = [] if self.guard is None else [*lengths, self.guard.notes]
        kinds = entry.function_type.args[: len(given)]
        values = [self.converted(x, kind, ast.unparse(node)) for x, kind in zip(given, kinds, strict=True)]
        result = Value(self.builder, self.builder.call(entry, [x.raw for x in [*values, *notes]]))
        if self.guard is not None:
            self.guard.leave_if_wrong()
        return result

    def argument(self, node: ast.expr, what: str, hint: object, lengths: list[Value]) -> list[Value]:
        """What is handed over: a number, an array or the fields of a NamedTuple; appends the lengths of arrays."""
        name = ast.unparse(node)
        fields = [x for x in self.parameters if x.startswith(f"{name}.")]
        if fields and get_type_hints(self.function)[name] is not hint:
            self.refuse(f"{what} is another NamedTuple than {name}")
        if not fields and name not in self.arrays:
            return [self.value(node)]
        for field in fields or [name]:
            if field in self.lengths and self.guard is not None:
                lengths.append(self.lengths[field])
        return [self.arrays[x] if x in self.arrays else self.of_variable(x) for x in fields or [name]]

    def of_variable(self, name: str) -> Value:
        return Value(self.builder, self.builder.load(self.variables[name]))
