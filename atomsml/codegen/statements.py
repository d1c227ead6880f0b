"""Statements of a Python function as instructions: what `@compiled` (loops.py) can do, and what it refuses."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from llvmlite import ir

from atomsml.codegen.expressions import Expressions
from atomsml.codegen.values import INT, Value, constant


class Statements:
    """Writes the body of one function."""

    def __init__(self, expressions: Expressions, result: ir.Type) -> None:
        self.of, self.result, self.builder = expressions, result, expressions.builder

    def write(self, tree: ast.FunctionDef) -> None:
        """Raises SyntaxError or TypeError with function and line where the function cannot be translated."""
        of, start = self.of, self.builder.block
        of.locals |= {x.id for x in ast.walk(tree) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
        try:
            self.run(tree.body)
        except TypeError as error:
            raise TypeError(f"{of.name}, line {of.line}: {error}") from None
        if isinstance(self.result, ir.VoidType):
            self.builder.ret_void()
        elif of.assigned is None:
            self.builder.unreachable()
        else:
            of.refuse("the function may end here without a result")
        of.places.branch(start)

    def run(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.of.line = statement.lineno
            write = getattr(self, f"do_{type(statement).__name__}", None)
            if write is None:
                self.of.refuse(f"cannot compile {ast.unparse(statement)!r}")
            write(statement)

    def do_Pass(self, statement: ast.Pass) -> None:
        pass

    def do_Expr(self, statement: ast.Expr) -> None:
        if isinstance(statement.value, ast.Call):
            self.of.call(statement.value)
        elif not isinstance(statement.value, ast.Constant):  # a docstring
            self.of.refuse(f"{ast.unparse(statement)!r} does nothing")

    def do_Assign(self, statement: ast.Assign) -> None:
        if len(statement.targets) > 1:
            self.of.refuse(f"{ast.unparse(statement)!r}: one target for one value")
        target, value = statement.targets[0], statement.value
        if not isinstance(target, ast.Tuple):
            self.assign(target, self.of.value(value))
            return
        if not isinstance(value, ast.Tuple) or len(value.elts) != len(target.elts):
            self.of.refuse(f"{ast.unparse(statement)!r}: as many values as targets, as in a, b = c, d")
        values = [self.of.value(x) for x in value.elts]  # all of them before any is assigned
        for one, x in zip(target.elts, values, strict=True):
            self.assign(one, x)

    def assign(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Name):
            self.of.set_variable(target.id, value)
        elif isinstance(target, ast.Subscript):
            array, index = self.of.element(target)
            array[index] = self.of.converted(value, array.kind, ast.unparse(target))
        else:
            self.of.refuse(f"{ast.unparse(target)} cannot be assigned")

    def do_AugAssign(self, statement: ast.AugAssign) -> None:
        target, operation = statement.target, self.of.operation(statement.op)
        if isinstance(target, ast.Subscript):
            array, index = self.of.element(target)  # computed once
            value = operation(array[index], self.of.value(statement.value))
            array[index] = self.of.converted(value, array.kind, ast.unparse(target))
        else:
            self.assign(target, operation(self.of.value(target), self.of.value(statement.value)))

    def do_Return(self, statement: ast.Return) -> None:
        node = statement.value
        if isinstance(self.result, ir.VoidType):
            if node is not None and ast.unparse(node) != "None":
                self.of.refuse("the function is annotated to return nothing")
            self.builder.ret_void()
        elif node is None:
            self.of.refuse("the function is annotated to return a number")
        else:
            self.builder.ret(self.of.converted(self.of.value(node), self.result, "the result").raw)
        self.builder.position_at_end(self.builder.append_basic_block())  # what follows is never reached
        self.of.assigned = None

    def do_If(self, statement: ast.If) -> None:
        yes, no, after = self.of.blocks(3)
        self.builder.cbranch(self.of.truth(statement.test).raw, yes, no)
        before, ends = self.of.assigned, []
        for block, body in ((yes, statement.body), (no, statement.orelse)):
            self.builder.position_at_end(block)
            self.of.assigned = None if before is None else set(before)
            self.run(body)
            self.builder.branch(after)
            if self.of.assigned is not None:
                ends.append(self.of.assigned)
        self.builder.position_at_end(after)
        self.of.assigned = set.intersection(*ends) if ends else None

    def do_While(self, statement: ast.While) -> None:
        if statement.orelse:
            self.of.refuse("there is no while ... else")
        self.loop(lambda: self.of.truth(statement.test), lambda: self.run(statement.body))

    def do_For(self, statement: ast.For) -> None:
        if statement.orelse:
            self.of.refuse("there is no for ... else")
        start, stop = self.bounds(statement.iter)
        target = statement.target
        if not isinstance(target, ast.Name):
            self.of.refuse(f"{ast.unparse(target)} cannot count; take a variable")
        place = self.of.places.alloca(INT)
        self.builder.store(start.raw, place)

        def counter() -> Value:
            return Value(self.builder, self.builder.load(place))

        def body() -> None:
            self.assign(target, counter())
            self.run(statement.body)
            self.builder.store((counter() + 1).raw, place)

        self.loop(lambda: counter() < stop, body)

    def bounds(self, node: ast.expr) -> list[Value]:
        """Of a range."""
        if not isinstance(node, ast.Call) or self.of.from_outside(node.func) is not range:
            self.of.refuse(f"a loop goes over a range, not {ast.unparse(node)!r}")
        if node.keywords or not 1 <= len(node.args) <= 2:
            self.of.refuse(f"{ast.unparse(node)!r}: one or two bounds and no step")
        found = [self.of.converted(self.of.value(x), INT, "a bound of a range") for x in node.args]
        return found if len(found) == 2 else [constant(self.builder, 0, INT), *found]

    def loop(self, condition: Callable[[], Value], body: Callable[[], None]) -> None:
        head, inside, after = self.of.blocks(3)
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(condition().raw, inside, after)
        self.builder.position_at_end(inside)
        before = self.of.assigned
        self.of.assigned = None if before is None else set(before)
        body()
        self.of.assigned = before  # the body may never run
        self.builder.branch(head)
        self.builder.position_at_end(after)
