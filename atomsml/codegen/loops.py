"""Loops over numbers, written as Python functions and compiled by LLVM to machine code of this processor.

`@compiled` takes a function in a small part of Python: `for` over a range of one or two bounds, `while`, `if`,
assignments to variables and elements of arrays, arithmetic, comparisons, `floor`, `ceil` and `sqrt` of math, `min`,
`max`, `abs`, `int`, `float`, `bool`, global numbers, and calls of other compiled functions. Annotations give the types:
`int`, `float`, `bool`, the flat arrays `Ints`, `Floats` and `Bools`, and for many arguments that belong together a
NamedTuple of these. What is taken gives what Python gives, but for this list; the rest is refused, with its line.

- Integers have 64 bits and wrap; where they meet floats they are rounded to 53 bits. Shifts are by 0 to 63.
- A variable keeps the type of its first value. An integer may become a float, nothing else happens by itself.
- Dividing by zero gives inf, nan or, of integers, 0. What int(), floor() and ceil() cannot hold gives any integer.
- Nothing looks at an index unless `checked_indices` (checks.py) holds. Negative ones do not count from the end.
- The arrays of a call must not overlap.
- `@fused` in place of `@compiled` does not round products before something is added to them.

A function that calls no other one runs as ordinary Python on lists or numpy arrays, too (`.function`).
"""

from __future__ import annotations

import ast
import ctypes
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeAlias, get_type_hints

from llvmlite import ir

from atomsml.codegen.arrays import BYTE
from atomsml.codegen.checks import NOTES, Span, checking, raise_if_wrong
from atomsml.codegen.expressions import Expressions
from atomsml.codegen.kept import Translation, kept
from atomsml.codegen.machine import MachineCode
from atomsml.codegen.statements import Statements
from atomsml.codegen.values import BOOL, DOUBLE, INT, name_of

Ints: TypeAlias = list[int]
Floats: TypeAlias = list[float]
Bools: TypeAlias = list[bool]

NUMBERS: dict[Any, ir.Type] = {int: INT, float: DOUBLE, bool: BOOL}
ARRAYS: dict[Any, ir.Type] = {Ints: INT.as_pointer(), Floats: DOUBLE.as_pointer(), Bools: BYTE.as_pointer()}
C_TYPES = {"void": None, "int": ctypes.c_int64, "float": ctypes.c_double, "bool": ctypes.c_bool}


class Compiled:
    """A function of numbers and arrays, compiled when it is first called.

    An array is given by its address (while indices are checked by a `Span`: see `checks.address`), a NamedTuple as
    `*fields`.

    Raises:
        SyntaxError, TypeError: at the first call, if the function uses more than the part of Python named above.
        TypeError: another number of arguments.
        IndexError: a wrong index, if indices are checked.
    """

    def __init__(self, function: FunctionType, fused: bool = False) -> None:
        functools.update_wrapper(self, function)
        self.function, self.fused = function, fused

    def __call__(self, *arguments: Any) -> Any:
        return (self._with_checks if checking() else self._without_checks)(*arguments)

    @property
    def text(self) -> str:
        """What is given to LLVM: the function and those that it calls."""
        return str(Program(self).module)

    @functools.cached_property
    def _without_checks(self) -> Callable[..., Any]:
        self._code, call = _machine_code(kept(lambda: Program(self).translation(), self.function))
        return call

    @functools.cached_property
    def _with_checks(self) -> Callable[..., Any]:
        translation = kept(lambda: Program(self, []).translation(), self.function)
        arrays = sum(kind.endswith("*") for kind in translation.facts["arguments"]) - 1
        sites = translation.facts["sites"]
        self._checked_code, call = _machine_code(translation)

        def checked(*arguments: Any) -> Any:
            lengths = [x.length for x in arguments if isinstance(x, Span)]
            if len(lengths) != arrays:
                raise TypeError(f"{self.function.__qualname__}: {len(lengths)} of {arrays} arrays tell their length")
            notes = (ctypes.c_int64 * NOTES)()
            result = call(*arguments, *lengths, ctypes.addressof(notes))
            raise_if_wrong(list(notes), sites)
            return result

        return checked


def compiled(function: Callable[..., Any]) -> Compiled:
    assert isinstance(function, FunctionType)
    return Compiled(function)


def fused(function: Callable[..., Any]) -> Compiled:
    """Compiled so that products are not rounded before something is added: quicker, with other last digits."""
    assert isinstance(function, FunctionType)
    return Compiled(function, fused=True)


def _machine_code(translation: Translation) -> tuple[MachineCode, Callable[..., Any]]:
    """The code, which must be kept, and how to call it."""
    facts = translation.facts
    code = MachineCode(translation.code, facts["name"])
    # addresses, and integers as if they were: ctypes converts these twice as fast
    types: list[Any] = [C_TYPES[kind] if kind in ("float", "bool") else ctypes.c_void_p for kind in facts["arguments"]]
    return code, ctypes.CFUNCTYPE(C_TYPES[facts["result"]], *types)(code.address)


class Fused(ir.IRBuilder):
    """LLVM may make one instruction of a product and what is added to it."""

    def fadd(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return super().fadd(a, b, flags=("contract",))

    def fsub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return super().fsub(a, b, flags=("contract",))

    def fmul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return super().fmul(a, b, flags=("contract",))


class Program:
    """A function with those that it calls, as a module of LLVM.

    Args:
        source: what is called from outside.
        sites: None, or a list to which the places are appended where indices are checked.
    """

    def __init__(self, source: Compiled, sites: list[str] | None = None) -> None:
        self.module, self.sites = ir.Module(), sites
        self._functions: dict[Compiled, ir.Function] = {}
        self.entry = self.translated(source)
        self.entry.linkage = "external"

    def translated(self, source: Compiled) -> ir.Function:
        """The function as part of the module, each once."""
        if source not in self._functions:
            function = source.function
            name = f"{function.__module__}.{function.__qualname__}"
            lines, first = inspect.getsourcelines(function)
            tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
            assert isinstance(tree, ast.FunctionDef)
            ast.increment_lineno(tree, first - 1)
            parameters, result = _signature(function, name, tree)
            kinds = list(parameters.values())
            if self.sites is not None:  # also the lengths of the arrays, and where wrong indices are noted
                kinds += [INT] * sum(x.is_pointer for x in kinds) + [INT.as_pointer()]
            entry = ir.Function(self.module, ir.FunctionType(result, kinds), self.module.get_unique_name(name))
            entry.linkage = "internal"
            self._functions[source] = entry
            builder = Fused if source.fused else ir.IRBuilder
            expressions = Expressions(function, entry, list(parameters), self._callee, self.sites, builder)
            Statements(expressions, result).write(tree)
        return self._functions[source]

    def translation(self) -> Translation:
        """Machine code, and how it is called."""
        kind = self.entry.function_type
        facts = {"name": self.entry.name, "sites": self.sites, "result": name_of(kind.return_type)}
        facts["arguments"] = [name_of(x) for x in kind.args]
        return Translation.of(facts, str(self.module), optimise=True)

    def _callee(self, source: object) -> tuple[FunctionType, ir.Function] | None:
        """What a function that is called was and becomes."""
        return (source.function, self.translated(source)) if isinstance(source, Compiled) else None


def _signature(function: FunctionType, name: str, tree: ast.FunctionDef) -> tuple[dict[str, ir.Type], ir.Type]:
    """Types of all arguments, NamedTuples taken apart, and of the result."""
    given, hints = tree.args, get_type_hints(function)
    if given.defaults or given.vararg or given.kwarg or given.kwonlyargs:
        raise SyntaxError(f"{name}: arguments have no defaults, no stars, and are not given by name")
    found: dict[str, ir.Type] = {}
    for argument in (x.arg for x in (*given.posonlyargs, *given.args)):
        hint = hints.get(argument)
        is_tuple = isinstance(hint, type) and issubclass(hint, tuple)
        fields = {f"{argument}.{k}": x for k, x in get_type_hints(hint).items()} if is_tuple else {argument: hint}
        for field, kind in fields.items():
            if kind not in NUMBERS and kind not in ARRAYS:
                raise TypeError(f"{name}: {field} needs the type int, float, bool, Ints, Floats or Bools")
            found[field] = {**NUMBERS, **ARRAYS}[kind]
    result = hints.get("return")
    if result not in NUMBERS and result is not type(None):
        raise TypeError(f"{name}: the result is an int, a float, a bool or None")
    return found, NUMBERS.get(result, ir.VoidType())
