"""Loops over numbers, written as Python functions and compiled by LLVM to machine code of this processor.

`@compiled` takes a function in a small part of Python: `for` over a range, `while`, `if`, assignments to variables and
elements of arrays, arithmetic, comparisons, `floor`, `ceil` and `sqrt` of math, `min`, `max`, `abs`, `int`, `float`,
global numbers, and calls of other compiled functions. Annotations give the types: `int` (64 bits), `float` (double),
`bool`, the flat arrays `Ints`, `Floats` and `Bools`, and for many arguments that belong together a NamedTuple of these.
A variable keeps the type of its first value. Integers are divided as floats. Both sides of `a if c else b` are
computed. Nothing checks that an index lies in its array, and the arrays of a call must not overlap.

A function that calls no other one runs as ordinary Python on lists or numpy arrays, too (`.function`).
"""

from __future__ import annotations

import ast
import ctypes
import functools
import inspect
import textwrap
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, TypeAlias, get_type_hints

from llvmlite import binding, ir

from atomsml.codegen.vectors import COMPILER, target_machine

Ints: TypeAlias = list[int]
Floats: TypeAlias = list[float]
Bools: TypeAlias = list[bool]

I1, I8, I64, DOUBLE = ir.IntType(1), ir.IntType(8), ir.IntType(64), ir.DoubleType()
NUMBERS = {"int": I64, "float": DOUBLE, "bool": I1}
TYPES: dict[Any, ir.Type] = {
    int: I64,
    float: DOUBLE,
    bool: I1,
    Ints: I64.as_pointer(),
    Floats: DOUBLE.as_pointer(),
    Bools: I8.as_pointer(),
    type(None): ir.VoidType(),
}
C_TYPES = {ir.VoidType(): None, I64: ctypes.c_int64, DOUBLE: ctypes.c_double, I1: ctypes.c_bool}

ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {  # instructions for integers and for floats
    ast.Add: ("add", "fadd"),
    ast.Sub: ("sub", "fsub"),
    ast.Mult: ("mul", "fmul"),
    ast.BitAnd: ("and_", ""),
    ast.BitOr: ("or_", ""),
    ast.LShift: ("shl", ""),
    ast.RShift: ("ashr", ""),
}
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


class Compiled:
    """A function of numbers and arrays, compiled when it is first called.

    An array is given by its address, a NamedTuple as `*fields`.

    Raises:
        SyntaxError, TypeError: at the first call, if the function uses more than the part of Python named above.
    """

    def __init__(self, function: FunctionType) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._machine_code(*arguments)

    @functools.cached_property
    def _machine_code(self) -> Callable[..., Any]:
        module = ir.Module()
        entry = _translate(self, module)
        entry.linkage = "external"
        with COMPILER:
            machine = target_machine()
            code = binding.parse_assembly(str(module))
            passes = binding.create_pass_builder(machine, binding.PipelineTuningOptions(speed_level=2))
            passes.getModulePassManager().run(code, passes)
            self._engine = binding.create_mcjit_compiler(code, machine)
            self._engine.finalize_object()  # the engine owns the code
        kind = entry.function_type
        # addresses, and integers as if they were: ctypes converts these twice as fast
        arguments: list[Any] = [ctypes.c_void_p if x.is_pointer or x == I64 else C_TYPES[x] for x in kind.args]
        signature = ctypes.CFUNCTYPE(C_TYPES[kind.return_type], *arguments)
        return signature(self._engine.get_function_address(entry.name))


def compiled(function: Callable[..., Any]) -> Compiled:
    assert isinstance(function, FunctionType)
    return Compiled(function)


def _translate(source: Compiled, module: ir.Module) -> ir.Function:
    """The function as part of a module, with those that it calls; each once."""
    function = source.function
    name = f"{function.__module__}.{function.__qualname__}"
    if name in module.globals:
        return module.globals[name]
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    kinds: dict[str, ir.Type] = {}
    for argument, hint in get_type_hints(function).items():
        fields = {argument: hint} if hint in TYPES else {f"{argument}.{k}": v for k, v in get_type_hints(hint).items()}
        kinds |= {k: TYPES[v] for k, v in fields.items()}
    result = kinds.pop("return")
    entry = ir.Function(module, ir.FunctionType(result, list(kinds.values())), name)
    entry.linkage = "internal"
    for value in entry.args:
        if value.type.is_pointer:
            value.add_attribute("noalias")
    _Body(entry, dict(zip(kinds, entry.args, strict=True)), function.__globals__).write(tree)
    return entry


class _Body:
    """Writes the instructions of one function; variables have places in memory, which LLVM turns into registers."""

    def __init__(self, entry: ir.Function, arguments: dict[str, ir.Value], constants: dict[str, Any]) -> None:
        self.entry, self.constants = entry, constants
        self.places = ir.IRBuilder(entry.append_basic_block())
        self.builder = ir.IRBuilder(entry.append_basic_block())
        self.arrays = {name: x for name, x in arguments.items() if x.type.is_pointer}
        self.variables: dict[str, ir.Value] = {}
        self.arguments = list(arguments)
        for name, x in arguments.items():
            if name not in self.arrays:
                self.assign(ast.Name(name), x)

    def write(self, tree: ast.FunctionDef) -> None:
        start = self.builder.block
        self.run(tree.body)
        if isinstance(self.entry.function_type.return_type, ir.VoidType):
            self.builder.ret_void()
        else:
            self.builder.unreachable()
        self.places.branch(start)

    def method(self, kind: str, node: ast.AST) -> Any:
        found = getattr(self, f"{kind}_{type(node).__name__}", None)
        if found is None:
            raise SyntaxError(f"{self.entry.name}: cannot compile {ast.unparse(node)!r}")
        return found

    def run(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.method("do", statement)(statement)

    def value(self, node: ast.expr) -> ir.Value:
        return self.method("of", node)(node)

    def block(self, number: int) -> list[ir.Block]:
        return [self.builder.append_basic_block() for _ in range(number)]

    def assign(self, target: ast.expr, value: ir.Value) -> None:
        if isinstance(target, ast.Name):
            if target.id not in self.variables:
                self.variables[target.id] = self.places.alloca(value.type)
            place = self.variables[target.id]
        else:
            place = self.element(target)
        kind = place.type.pointee
        if value.type == DOUBLE != kind:
            raise TypeError(f"{self.entry.name}: {ast.unparse(target)} is not a float; use int()")
        self.builder.store(self.convert(value, kind), place)

    def element(self, node: ast.expr) -> ir.Value:
        assert isinstance(node, ast.Subscript)
        return self.builder.gep(self.value(node.value), [self.value(node.slice)])

    def do_Expr(self, statement: ast.Expr) -> None:
        if not isinstance(statement.value, ast.Constant):  # a docstring
            self.value(statement.value)

    def do_Assign(self, statement: ast.Assign) -> None:
        target, value = statement.targets[0], statement.value
        if not isinstance(target, ast.Tuple):
            self.assign(target, self.value(value))
            return
        assert isinstance(value, ast.Tuple)
        values = [self.value(x) for x in value.elts]  # all of them before any is assigned
        for one, x in zip(target.elts, values, strict=True):
            self.assign(one, x)

    def do_AugAssign(self, statement: ast.AugAssign) -> None:
        self.assign(statement.target, self.value(ast.BinOp(statement.target, statement.op, statement.value)))

    def do_Return(self, statement: ast.Return) -> None:
        assert statement.value is not None
        self.builder.ret(self.convert(self.value(statement.value), self.entry.function_type.return_type))
        self.builder.position_at_end(self.builder.append_basic_block())  # what follows is never reached

    def do_If(self, statement: ast.If) -> None:
        yes, no, after = self.block(3)
        self.builder.cbranch(self.value(statement.test), yes, no)
        for block, body in ((yes, statement.body), (no, statement.orelse)):
            self.builder.position_at_end(block)
            self.run(body)
            self.builder.branch(after)
        self.builder.position_at_end(after)

    def do_While(self, statement: ast.While) -> None:
        self.loop(lambda: self.value(statement.test), lambda: self.run(statement.body))

    def do_For(self, statement: ast.For) -> None:
        assert isinstance(statement.iter, ast.Call)
        bounds = [self.value(x) for x in statement.iter.args]
        start, stop = bounds if len(bounds) == 2 else (I64(0), bounds[0])
        counter = self.places.alloca(I64)
        self.builder.store(start, counter)

        def body() -> None:
            self.assign(statement.target, self.builder.load(counter))
            self.run(statement.body)
            self.builder.store(self.builder.add(self.builder.load(counter), I64(1)), counter)

        self.loop(lambda: self.builder.icmp_signed("<", self.builder.load(counter), stop), body)

    def loop(self, condition: Callable[[], ir.Value], body: Callable[[], None]) -> None:
        head, inside, after = self.block(3)
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(condition(), inside, after)
        self.builder.position_at_end(inside)
        body()
        self.builder.branch(head)
        self.builder.position_at_end(after)

    def of_Constant(self, node: ast.Constant) -> ir.Value:
        return self.number(node.value)

    def of_Name(self, node: ast.Name | ast.Attribute) -> ir.Value:
        return self.named(ast.unparse(node))

    of_Attribute = of_Name

    def named(self, name: str) -> ir.Value:
        if name in self.arrays:
            return self.arrays[name]
        return self.builder.load(self.variables[name]) if name in self.variables else self.number(self.constants[name])

    def number(self, value: Any) -> ir.Value:
        return TYPES[type(value)](value)

    def of_Subscript(self, node: ast.Subscript) -> ir.Value:
        value = self.builder.load(self.element(node))
        return self.builder.icmp_signed("!=", value, I8(0)) if value.type == I8 else value

    def of_UnaryOp(self, node: ast.UnaryOp) -> ir.Value:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return self.builder.not_(value)
        assert isinstance(node.op, ast.USub)
        return self.builder.fneg(value) if value.type == DOUBLE else self.builder.neg(value)

    def of_BinOp(self, node: ast.BinOp) -> ir.Value:
        a, b = self.alike([self.value(node.left), self.value(node.right)])
        return self.arithmetic(node.op, a, b)

    def arithmetic(self, op: ast.operator, a: ir.Value, b: ir.Value) -> ir.Value:
        if isinstance(op, ast.Mod):
            return self.builder.sub(a, self.builder.mul(self.arithmetic(ast.FloorDiv(), a, b), b))
        if isinstance(op, ast.Div | ast.FloorDiv):
            quotient = self.builder.fdiv(self.convert(a, DOUBLE), self.convert(b, DOUBLE))
            return quotient if isinstance(op, ast.Div) else self.convert(self.intrinsic("floor", quotient), I64)
        return getattr(self.builder, ARITHMETIC[type(op)][a.type == DOUBLE])(a, b)

    def of_BoolOp(self, node: ast.BoolOp) -> ir.Value:
        """What follows is evaluated only where it decides."""
        result = self.places.alloca(I1)
        (after,) = self.block(1)
        for part in node.values:
            (more,) = self.block(1)
            value = self.value(part)
            self.builder.store(value, result)
            self.builder.cbranch(value, *((more, after) if isinstance(node.op, ast.And) else (after, more)))
            self.builder.position_at_end(more)
        self.builder.branch(after)
        self.builder.position_at_end(after)
        return self.builder.load(result)

    def of_IfExp(self, node: ast.IfExp) -> ir.Value:
        return self.builder.select(self.value(node.test), *self.alike([self.value(node.body), self.value(node.orelse)]))

    def of_Compare(self, node: ast.Compare) -> ir.Value:
        values = [self.value(x) for x in (node.left, *node.comparators)]
        tests = [self.compare(COMPARISONS[type(op)], *values[i : i + 2]) for i, op in enumerate(node.ops)]
        return functools.reduce(self.builder.and_, tests)

    def compare(self, op: str, a: ir.Value, b: ir.Value) -> ir.Value:
        a, b = self.alike([a, b])
        if a.type != DOUBLE:
            return self.builder.icmp_signed(op, a, b)
        return self.builder.fcmp_unordered(op, a, b) if op == "!=" else self.builder.fcmp_ordered(op, a, b)

    def of_Call(self, node: ast.Call) -> ir.Value:
        name = ast.unparse(node.func)
        values = [x for argument in node.args for x in self.fields(argument)]
        if name in NUMBERS:
            return self.convert(values[0], NUMBERS[name])
        if name in ("min", "max"):
            return functools.reduce(lambda a, b: self.extreme("<" if name == "min" else ">", a, b), values)
        if name == "abs" and values[0].type != DOUBLE:
            return self.extreme(">", values[0], self.builder.neg(values[0]))
        if name in ("abs", "sqrt"):
            return self.intrinsic("fabs" if name == "abs" else name, values[0])
        if name in ("floor", "ceil"):
            return self.convert(self.intrinsic(name, values[0]), I64)
        function = _translate(self.constants[name], self.entry.module)
        kinds = function.function_type.args
        return self.builder.call(function, [self.convert(x, kind) for x, kind in zip(values, kinds, strict=True)])

    def fields(self, argument: ast.expr) -> list[ir.Value]:
        """An argument of a call, or the fields of a NamedTuple."""
        found = [x for x in self.arguments if x.startswith(f"{ast.unparse(argument)}.")]
        return [self.named(x) for x in found] or [self.value(argument)]

    def extreme(self, op: str, a: ir.Value, b: ir.Value) -> ir.Value:
        a, b = self.alike([a, b])
        return self.builder.select(self.compare(op, a, b), a, b)

    def intrinsic(self, name: str, value: ir.Value) -> ir.Value:
        function = self.entry.module.declare_intrinsic(f"llvm.{name}", [DOUBLE])
        return self.builder.call(function, [self.convert(value, DOUBLE)])

    def alike(self, values: list[ir.Value]) -> list[ir.Value]:
        """Two numbers as floats if one of them is."""
        a, b = (x.type for x in values)
        kind = a if a == b else DOUBLE if DOUBLE in (a, b) else I64
        return [self.convert(x, kind) for x in values]

    def convert(self, value: ir.Value, kind: ir.Type) -> ir.Value:
        """A number as another type; a float loses what is behind the point."""
        if value.type == kind:
            return value
        if kind == DOUBLE:
            return self.builder.uitofp(value, kind) if value.type == I1 else self.builder.sitofp(value, kind)
        return self.builder.zext(value, kind) if value.type == I1 else self.builder.fptosi(value, kind)
