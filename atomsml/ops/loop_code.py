"""Plain loops over numbers, written as Python functions and compiled by LLVM to machine code of this processor.

`@compiled` takes a function in a small part of Python: `for` over a range, `while`, `if`, assignments to variables and
elements of arrays, arithmetic, comparisons, `floor`, `ceil` and `sqrt` of math, `min`, `max`, `abs`, `int`, `float`,
global numbers, and calls of other compiled functions. Annotations give the types: `int` (64 bits), `float` (double),
`bool`, and flat arrays `Ints`, `Floats` and `Bools`. A variable keeps the type of its first value. Division of
integers goes through double. Nothing checks that an index lies in its array, and arrays must not overlap.

The same function runs as ordinary Python on lists or numpy arrays (`.function`), which is how to debug it.
"""

from __future__ import annotations

import ast
import ctypes
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeAlias

from llvmlite import binding, ir

from atomsml.ops.vector_code import target_machine

Ints: TypeAlias = list[int]
Floats: TypeAlias = list[float]
Bools: TypeAlias = list[bool]

I1, I8, I64, DOUBLE = ir.IntType(1), ir.IntType(8), ir.IntType(64), ir.DoubleType()
ARRAYS = {"Ints": I64.as_pointer(), "Floats": DOUBLE.as_pointer(), "Bools": I8.as_pointer()}
TYPES = {"int": I64, "float": DOUBLE, "bool": I1, "None": ir.VoidType(), **ARRAYS}
C_TYPES = {I64: ctypes.c_int64, DOUBLE: ctypes.c_double, I1: ctypes.c_bool, ir.VoidType(): None}

ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {  # names of instructions for integers and for floats
    ast.Add: ("add", "fadd"),
    ast.Sub: ("sub", "fsub"),
    ast.Mult: ("mul", "fmul"),
    ast.BitAnd: ("and_", ""),
    ast.BitOr: ("or_", ""),
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
    """A function of numbers and arrays; compiled when it is first called.

    An array is passed as its address, such as `Tensor.data_ptr()`.
    """

    def __init__(self, function: FunctionType) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]

    def __call__(self, *arguments: Any) -> Any:
        return self._machine_code(*arguments)

    @functools.cached_property
    def _machine_code(self) -> Callable[..., Any]:
        module = ir.Module(self.function.__name__)
        entry = translate(self, module)
        entry.linkage = "external"
        machine = target_machine()
        optimised = binding.parse_assembly(str(module))
        passes = binding.create_pass_builder(machine, binding.PipelineTuningOptions(speed_level=3))
        passes.getModulePassManager().run(optimised, passes)
        self._engine = binding.create_mcjit_compiler(optimised, machine)  # owns the code
        self._engine.finalize_object()
        kind = entry.function_type
        signature = ctypes.CFUNCTYPE(C_TYPES[kind.return_type], *[C_TYPES.get(x, ctypes.c_void_p) for x in kind.args])
        return signature(self._engine.get_function_address(entry.name))


def compiled(function: Callable[..., Any]) -> Compiled:
    assert isinstance(function, FunctionType)
    return Compiled(function)


def translate(source: Compiled, module: ir.Module) -> ir.Function:
    """The function in a module, with those that it calls; each once."""
    name = source.function.__name__
    if name in module.globals:
        return module.globals[name]
    notes = source.function.__annotations__
    kinds = {k: TYPES[v if isinstance(v, str) else getattr(v, "__name__", str(v))] for k, v in notes.items()}
    result = kinds.pop("return")
    entry = ir.Function(module, ir.FunctionType(result, list(kinds.values())), name)
    entry.linkage = "internal"
    for argument, kind in zip(entry.args, kinds.values(), strict=True):
        if kind.is_pointer:
            argument.add_attribute("noalias")
    _Body(source, entry, dict(zip(kinds, entry.args, strict=True)))
    return entry


class _Body:
    """Writes the instructions of one function.

    Every variable has a place in memory; LLVM turns these into registers.
    """

    def __init__(self, source: Compiled, entry: ir.Function, arguments: dict[str, ir.Value]) -> None:
        self.module, self.constants = entry.module, source.function.__globals__
        self.result = entry.function_type.return_type
        self.places = entry.append_basic_block()
        self.builder = ir.IRBuilder(entry.append_basic_block())
        self.arrays = {name: x for name, x in arguments.items() if x.type.is_pointer}
        self.variables: dict[str, ir.Value] = {}
        start = self.builder.block
        for name, x in arguments.items():
            if name not in self.arrays:
                self.assign(name, x)
        assert isinstance(source.tree, ast.FunctionDef)
        self.run(source.tree.body)
        if not self.builder.block.is_terminated:
            self.builder.ret_void() if isinstance(self.result, ir.VoidType) else self.builder.unreachable()
        ir.IRBuilder(self.places).branch(start)

    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            getattr(self, f"do_{type(statement).__name__}")(statement)

    def assign(self, name: str, value: ir.Value) -> None:
        if name not in self.variables:
            self.variables[name] = ir.IRBuilder(self.places).alloca(value.type)
        self.put(value, self.variables[name])

    def store(self, target: ast.expr, value: ir.Value) -> None:
        if isinstance(target, ast.Name):
            self.assign(target.id, value)
        else:
            self.put(value, self.element(target))

    def put(self, value: ir.Value, place: ir.Value) -> None:
        kind = place.type.pointee
        if value.type == DOUBLE != kind:
            raise TypeError("a float cannot go where an integer is kept; use int()")
        self.builder.store(self.convert(value, kind), place)

    def do_Expr(self, statement: ast.Expr) -> None:
        if not isinstance(statement.value, ast.Constant):  # a docstring
            self.value(statement.value)

    def do_Assign(self, statement: ast.Assign) -> None:
        (target,) = statement.targets
        if isinstance(target, ast.Tuple):
            assert isinstance(statement.value, ast.Tuple)
            values = [self.value(x) for x in statement.value.elts]  # all of them before any is assigned
            for name, x in zip(target.elts, values, strict=True):
                self.store(name, x)
        else:
            self.store(target, self.value(statement.value))

    def do_AugAssign(self, statement: ast.AugAssign) -> None:
        self.store(statement.target, self.value(ast.BinOp(statement.target, statement.op, statement.value)))

    def do_Return(self, statement: ast.Return) -> None:
        assert statement.value is not None
        self.builder.ret(self.convert(self.value(statement.value), self.result))
        self.builder.position_at_end(self.builder.append_basic_block())

    def do_If(self, statement: ast.If) -> None:
        condition = self.value(statement.test)
        yes, no, after = (self.builder.append_basic_block() for _ in range(3))
        self.builder.cbranch(condition, yes, no)
        for block, body in ((yes, statement.body), (no, statement.orelse)):
            self.builder.position_at_end(block)
            self.run(body)
            self.builder.branch(after)
        self.builder.position_at_end(after)

    def do_While(self, statement: ast.While) -> None:
        head, inside, after = (self.builder.append_basic_block() for _ in range(3))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(self.value(statement.test), inside, after)
        self.builder.position_at_end(inside)
        self.run(statement.body)
        self.builder.branch(head)
        self.builder.position_at_end(after)

    def do_For(self, statement: ast.For) -> None:
        assert isinstance(statement.iter, ast.Call)
        assert isinstance(statement.target, ast.Name)
        bounds = [self.value(x) for x in statement.iter.args]
        start, stop = bounds if len(bounds) == 2 else (I64(0), bounds[0])
        head, inside, after = (self.builder.append_basic_block() for _ in range(3))
        counter = ir.IRBuilder(self.places).alloca(I64)
        self.builder.store(start, counter)
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(self.builder.icmp_signed("<", self.builder.load(counter), stop), inside, after)
        self.builder.position_at_end(inside)
        self.assign(statement.target.id, self.builder.load(counter))
        self.run(statement.body)
        self.builder.store(self.builder.add(self.builder.load(counter), I64(1)), counter)
        self.builder.branch(head)
        self.builder.position_at_end(after)

    def value(self, node: ast.expr) -> ir.Value:
        return getattr(self, f"of_{type(node).__name__}")(node)

    def of_Constant(self, node: ast.Constant) -> ir.Value:
        return self.constant(node.value)

    def of_Name(self, node: ast.Name) -> ir.Value:
        if node.id in self.arrays:
            return self.arrays[node.id]
        if node.id in self.variables:
            return self.builder.load(self.variables[node.id])
        return self.constant(self.constants[node.id])

    def constant(self, value: object) -> ir.Value:
        if isinstance(value, bool):
            return I1(int(value))
        return I64(value) if isinstance(value, int) else DOUBLE(value)

    def element(self, node: ast.expr) -> ir.Value:
        assert isinstance(node, ast.Subscript)
        return self.builder.gep(self.value(node.value), [self.value(node.slice)])

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
        a, b = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Div | ast.FloorDiv):
            quotient = self.builder.fdiv(self.convert(a, DOUBLE), self.convert(b, DOUBLE))
            return quotient if isinstance(node.op, ast.Div) else self.convert(self.intrinsic("floor", quotient), I64)
        if isinstance(node.op, ast.Mod):
            return self.value(ast.BinOp(node.left, ast.Sub(), ast.BinOp(ast.BinOp(node.left, ast.FloorDiv(), node.right), ast.Mult(), node.right)))
        a, b = self.alike(a, b)
        return getattr(self.builder, ARITHMETIC[type(node.op)][a.type == DOUBLE])(a, b)

    def of_BoolOp(self, node: ast.BoolOp) -> ir.Value:
        """What follows is evaluated only where it decides."""
        place = ir.IRBuilder(self.places).alloca(I1)
        after = self.builder.append_basic_block()
        for part in node.values:
            value, more = self.value(part), self.builder.append_basic_block()
            self.builder.store(value, place)
            self.builder.cbranch(value, *((more, after) if isinstance(node.op, ast.And) else (after, more)))
            self.builder.position_at_end(more)
        self.builder.branch(after)
        self.builder.position_at_end(after)
        return self.builder.load(place)

    def of_Compare(self, node: ast.Compare) -> ir.Value:
        values = [self.value(x) for x in (node.left, *node.comparators)]
        tests = [self.compare(op, a, b) for op, a, b in zip(node.ops, values[:-1], values[1:], strict=True)]
        return functools.reduce(self.builder.and_, tests)

    def compare(self, op: ast.cmpop, a: ir.Value, b: ir.Value) -> ir.Value:
        a, b = self.alike(a, b)
        if a.type != DOUBLE:
            return self.builder.icmp_signed(COMPARISONS[type(op)], a, b)
        ask = self.builder.fcmp_unordered if isinstance(op, ast.NotEq) else self.builder.fcmp_ordered
        return ask(COMPARISONS[type(op)], a, b)

    def of_Call(self, node: ast.Call) -> ir.Value:
        values = [self.value(x) for x in node.args]
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in ("int", "float"):
            return self.convert(values[0], TYPES[name])
        if name in ("min", "max"):
            return functools.reduce(lambda a, b: self.extreme(name, a, b), values)
        if name == "sqrt":
            return self.intrinsic("sqrt", values[0])
        if name in ("floor", "ceil"):
            return self.convert(self.intrinsic(name, values[0]), I64)
        if name == "abs":
            return self.intrinsic("fabs", values[0]) if values[0].type == DOUBLE else self.extreme("max", values[0], self.builder.neg(values[0]))
        function = translate(self.constants[name], self.module)
        return self.builder.call(function, [self.convert(x, a.type) for x, a in zip(values, function.args, strict=True)])

    def extreme(self, name: str, a: ir.Value, b: ir.Value) -> ir.Value:
        a, b = self.alike(a, b)
        return self.builder.select(self.compare(ast.Lt() if name == "min" else ast.Gt(), a, b), a, b)

    def intrinsic(self, name: str, value: ir.Value) -> ir.Value:
        return self.builder.call(self.module.declare_intrinsic(f"llvm.{name}", [DOUBLE]), [self.convert(value, DOUBLE)])

    def alike(self, a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
        if a.type == b.type:
            return a, b
        common = DOUBLE if DOUBLE in (a.type, b.type) else I64
        return self.convert(a, common), self.convert(b, common)

    def convert(self, value: ir.Value, kind: ir.Type) -> ir.Value:
        """To a number of another type; a float loses what is behind the point."""
        if value.type == kind:
            return value
        if kind == DOUBLE:
            return self.builder.uitofp(value, kind) if value.type == I1 else self.builder.sitofp(value, kind)
        return self.builder.zext(value, kind) if value.type == I1 else self.builder.fptosi(value, kind)
