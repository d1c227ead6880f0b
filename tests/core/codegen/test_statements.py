"""Statements that `@compiled` refuses, because it would not do what Python does, and those that it takes."""

from __future__ import annotations

import linecache
from math import copysign, inf, nan
from typing import Any

import numpy as np
import pytest

from atomsml.codegen.loops import Bools, Compiled, Floats, Ints, compiled

HEADER = "def program(n: int, x: float, p: bool, v: Ints, w: Floats, flags: Bools) -> int:"


def written(lines: list[str], header: str = HEADER) -> Any:
    source = "\n".join([header, *(f"    {line}" for line in lines)]) + "\n"
    path = f"{abs(hash(source))}.program.py"
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    names = {"Ints": Ints, "Floats": Floats, "Bools": Bools, "__name__": __name__}
    exec(compile(source, path, "exec"), names)
    return names["program"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["for i in range(0, n, 2):", "    n += 1", "return n"], "2: .*one or two bounds and no step"),
        (["for i in range(n):", "    pass", "else:", "    n = 1", "return n"], "2: there is no for ... else"),
        (["while n > 0:", "    n -= 1", "else:", "    n = 7", "return n"], "2: there is no while ... else"),
        (["for i in v:", "    pass", "return n"], "2: a loop goes over a range, not 'v'"),
        (["for i in reversed(range(n)):", "    pass", "return n"], "2: a loop goes over a range"),
        (["for i in range(x):", "    pass", "return n"], "2: a bound of a range is int, not float"),
        (["for v[0] in range(n):", "    pass", "return n"], r"2: v\[0\] cannot count"),
        (["while n:", "    n -= 1", "return n"], "2: 'n' is not a truth value; write n != 0"),
        (["while p:", "    break", "return n"], "3: cannot compile 'break'"),
        (["a = b = n", "return a"], "2: .*one target for one value"),
        (["a, b = n", "return a"], "2: .*as many values as targets"),
        (["a, b = n, n, n", "return a"], "2: .*as many values as targets"),
        (["(a, b), c = n, n", "return a"], r"2: \(a, b\) cannot be assigned"),
        (["a: int = n", "return a"], "2: cannot compile"),
        (["n **= 2", "return n"], r"2: there is no \*\*; multiply"),
        (["n /= 2", "return n"], "2: n is int, not float; use int"),
        (["v[0] = x", "return n"], r"2: v\[0\] is int, not float"),
        (["v[0] += 0.5", "return n"], r"2: v\[0\] is int, not float"),
        (["flags[0] = n", "return n"], "2: int does not become bool"),
        (["p = n", "return n"], "2: p is bool, not int"),
        (["v = w", "return n"], "2: (v is an array|w is an array)"),
        (["v = n", "return n"], "2: v is an array or a NamedTuple"),
        (["if p:", "    a = 1", "return a"], "4: a may have no value here"),
        (["for i in range(n):", "    a = i", "return a"], "4: a may have no value here"),
        (["n = range", "range = 1", "return n"], "2: range may have no value here"),
        (["if p:", "    return 1"], "the function may end here without a result"),
        (["while p:", "    return 1"], "the function may end here without a result"),
        (["return x"], "2: the result is int, not float"),
        (["return"], "2: the function is annotated to return a number"),
        (["n + 1", "return n"], "2: 'n [+] 1' does nothing"),
        (["assert p", "return n"], "2: cannot compile 'assert p'"),
        (["def inner() -> int:", "    return 1", "return n"], "2: cannot compile 'def inner"),
    ],
)
def test_refused(lines: list[str], message: str) -> None:
    with pytest.raises((SyntaxError, TypeError), match=f"test_statements.program, line {message}|program, .*{message}"):
        Compiled(written(lines))(1, 1.0, True, 0, 0, 0)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("def program(n: int, m: int = 2) -> int:", "no defaults"),
        ("def program(*n: int) -> int:", "no stars"),
        ("def program(*, n: int) -> int:", "not given by name"),
        ("def program(n) -> int:", "n needs the type int, float"),
        ("def program(n: str) -> int:", "n needs the type int, float"),
        ("def program(n: int) -> Ints:", "the result is an int"),
        ("def program(n: int):", "the result is an int"),
    ],
)
def test_signatures_that_are_refused(header: str, message: str) -> None:
    with pytest.raises((SyntaxError, TypeError), match=f"test_statements.program: .*{message}"):
        Compiled(written(["return 1"], header))(1)


def test_a_name_of_an_enclosing_function_is_refused() -> None:
    factor = 3

    @compiled
    def times(n: int) -> int:
        return n * factor

    with pytest.raises(SyntaxError, match="'factor' is neither a variable nor a global name"):
        times(1)


@compiled
def early(n: int, out: Ints) -> None:
    """Returns in the midst of loops and branches, and names that hide built-in ones."""
    for i in range(n):
        min = 2 * i
        if min > 4:
            if i == 7:
                return
            out[i] = min
        else:
            out[i] = -min
        i = 100  # the range goes on as it was
    out[0] = 1


@pytest.mark.parametrize("n", [0, 3, 6, 9])
def test_early_returns_and_hidden_names(n: int) -> None:
    found, expected = np.zeros(10, np.int64), [0] * 10
    assert early(n, found.ctypes.data) is None
    early.function(n, expected)
    assert found.tolist() == expected


@compiled
def extremes(x: float, y: float, out: Floats) -> None:
    out[0], out[1], out[2], out[3] = min(x, y), max(x, y), min(x, y, 1.0), max(0.0, x)


@pytest.mark.parametrize("x", [nan, inf, 0.0, -0.0, 2.0])
@pytest.mark.parametrize("y", [nan, -inf, 0.0, -0.0, 3.0])
def test_extremes_of_zeros_and_nan_are_pythons(x: float, y: float) -> None:
    found, expected = np.zeros(4), [0.0] * 4
    extremes(x, y, found.ctypes.data)
    extremes.function(x, y, expected)
    np.testing.assert_array_equal(found, expected)
    assert [copysign(1, a) for a in found] == [copysign(1, a) for a in expected]


@compiled
def divided(a: int, b: int, out: Ints) -> None:
    out[0], out[1] = a // b, a % b


@pytest.mark.parametrize("a", [-(2**63), -(2**53) - 1, -7, 7, 2**63 - 1])
@pytest.mark.parametrize("b", [-(2**62), -3, -1, 1, 3, 2**63 - 1])
def test_division_of_long_integers(a: int, b: int) -> None:
    found = np.zeros(2, np.int64)
    divided(a, b, found.ctypes.data)
    assert found.tolist() == [(a // b + 2**63) % 2**64 - 2**63, a % b]


def test_division_by_zero_gives_zero() -> None:
    found = np.ones(2, np.int64)
    divided(5, 0, found.ctypes.data)
    assert found.tolist() == [0, 0]
