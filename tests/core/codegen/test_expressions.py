"""What `@compiled` takes gives what Python gives: programs put together at random are run both ways."""

from __future__ import annotations

import itertools
from math import ceil, floor, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from atomsml.codegen.loops import Compiled, Floats, Ints, compiled

NUMBERS = itertools.count()
HEADER = "def program(a: int, b: int, x: float, y: float, p: bool, ints: Ints, floats: Floats) -> float:\n"
# Integers of up to 20 in trees of depth three stay below 2^53: exact in 64 bits and as floats.
INTEGERS = st.integers(-9, 9).map(lambda n: f"({n})")
FLOATS = st.sampled_from(["0.0", "0.5", "(-1.25)", "3.0", "1e-3"])


def binary(operators: str, left: st.SearchStrategy[str], right: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("({} {} {})".format, left, st.sampled_from(operators.split()), right)


def of_two(functions: str, left: st.SearchStrategy[str], right: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("{}({}, {})".format, st.sampled_from(functions.split()), left, right)


def of_one(forms: list[str], inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda form, x: form.format(x), st.sampled_from(forms), inner)


def expressions(depth: int) -> tuple[st.SearchStrategy[str], st.SearchStrategy[str], st.SearchStrategy[str]]:
    """Of integers, floats and truth values."""
    integer = st.one_of(st.sampled_from(["a", "b", "i", "ints[0]", "ints[1]"]), INTEGERS)
    floating = st.one_of(st.sampled_from(["x", "y", "f", "floats[0]"]), FLOATS)
    truth = st.sampled_from(["p", "q", "True"])
    for _ in range(depth):
        number, choice = st.one_of(integer, floating), "({} if {} else {})".format
        compared = binary("< <= > >= == !=", number, number)
        integer, floating, truth = (
            st.one_of(
                integer,
                binary("+ - * // % & | ^", integer, integer),
                binary("+ - *", truth, truth),
                binary("<< >>", integer, st.sampled_from(["0", "1", "3"])),
                of_one(["-{}", "~{}", "abs({})", "+{}", "floor({})"], integer),
                of_one(["int({})", "-{}", "abs({})", "~{}"], truth),
                of_one(["int({})", "floor({})", "ceil({})"], floating),
                of_two("min max", integer, integer),
                st.builds(choice, integer, truth, integer),
            ),
            st.one_of(
                floating,
                binary("+ - *", number, floating),
                binary("/", number, number),
                of_one(["-{}", "abs({})", "sqrt(abs({}))"], floating),
                of_one(["float({})"], integer),
                of_two("min max", floating, floating),
                st.builds(choice, floating, truth, floating),
            ),
            st.one_of(
                truth,
                compared,
                st.builds("({} < {} <= {})".format, integer, integer, number),
                binary("and or", truth, truth),
                binary("& | ^ == < >=", truth, truth),
                of_one(["(not {})"], truth),
                of_one(["bool({})"], number),
            ),
        )
    return integer, floating, truth


EXPRESSIONS = expressions(2)


@st.composite
def blocks(draw: Any, depth: int, indent: str) -> str:
    integer, floating, truth = EXPRESSIONS
    clamped = integer.map("min(max({}, -20), 20)".format)
    statement = st.one_of(
        st.builds("i = {}".format, clamped),
        st.builds("f = {}".format, st.one_of(floating, integer)),
        st.builds("q = {}".format, truth),
        st.builds("a, b = {}, {}".format, clamped, clamped),
        st.builds("ints[i % 2] = {}".format, clamped),
        st.builds("floats[i % 2] {}= {}".format, st.sampled_from(["", "+", "-", "*", "/"]), floating),
        st.builds("i, ints[i % 2] = {}, {}".format, clamped, clamped),
    )
    lines = [indent + draw(statement) for _ in range(draw(st.integers(1, 3)))]
    if depth:
        inside = blocks(depth - 1, indent + "    ")
        lines += draw(
            st.one_of(
                st.just([]),
                st.builds(lambda t, u: [f"{indent}if {t}:", u], truth, inside),
                st.builds(lambda t, u, v: [f"{indent}if {t}:", u, f"{indent}else:", v], truth, inside, inside),
                st.builds(lambda n, u: [f"{indent}for i in range({n}, a % 5):", u], INTEGERS, inside),
                st.builds(lambda t, v: [f"{indent}if {t}:", f"{indent}    return {v}"], truth, floating),
                st.builds(
                    lambda t, u: [f"{indent}n = 3", f"{indent}while n > 0 and {t}:", f"{indent}    n -= 1", u],
                    truth,
                    inside,
                ),
            )
        )
    return "\n".join(lines)


def written(source: str, folder: Path) -> Any:
    """A function from source that can be looked up again."""
    path = folder / f"program_{next(NUMBERS)}.py"
    path.write_text(source)
    names = {"sqrt": sqrt, "floor": floor, "ceil": ceil, "Ints": Ints, "Floats": Floats, "__name__": __name__}
    exec(compile(source, str(path), "exec"), names)
    return names["program"]


def outcome(function: Any, numbers: tuple[Any, ...], as_addresses: bool) -> list[float]:
    arrays = np.array([3, -4]), np.array([0.75, -2.0])
    given = [x.ctypes.data for x in arrays] if as_addresses else [x.tolist() for x in arrays]
    result = function(*numbers, *given)
    after = arrays if as_addresses else given
    return [result, *after[0], *after[1]]


@settings(
    max_examples=60,  # some 50 ms each, most of which LLVM takes
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(
    blocks(2, "    "),
    st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.floats(-4, 4), st.floats(-4, 4), st.booleans()),
)
@example("    i = (-7) // b + (-7) % b", (1, -2, 0.0, 0.0, True))
@example("    f = min(-f * 0.0, x) + float(q + p)", (1, 2, 0.0, 0.0, True))
def test_random_programs(tmp_path: Path, body: str, numbers: tuple[Any, ...]) -> None:
    start, end = "    i, f, q, n = 1, 0.5, False, 0\n", "\n    return f + i + q + n + a + 3 * b\n"
    function = written(HEADER + start + body + end, tmp_path)
    try:
        expected = outcome(function, numbers, as_addresses=False)
    except (ZeroDivisionError, OverflowError, ValueError):
        reject()  # where Python gives nothing
    if not all(abs(x) < 2**53 for x in expected):
        reject()  # an integer may have been longer than 64 bits on the way
    np.testing.assert_array_equal(outcome(Compiled(function), numbers, as_addresses=True), expected)


@compiled
def bump(values: Ints, n: int) -> int:
    values[0] += 1
    return n


class Pair(NamedTuple):
    values: Ints
    size: int


class OtherPair(NamedTuple):
    values: Ints
    count: int


@compiled
def of_pair(pair: Pair) -> int:
    return pair.size


HALF, TEXT, LARGE = 0.5, "text", 2**63


@compiled
def once(values: Ints) -> int:
    values[bump(values, 1)] += 10
    total = 100 * int(0 < bump(values, 1) < 2)
    if values[0] < 0 < bump(values, 1):
        total += 1000
    return total + values[0]


def test_what_is_computed_once_in_python_is_computed_once() -> None:
    values = np.zeros(2, np.int64)
    assert once(values.ctypes.data) == 102
    assert values.tolist() == [2, 10]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("n ** 2", "no \\*\\*; multiply"),
        ("x // 2.0", "// needs integers"),
        ("x % 2", "% needs integers"),
        ("x & 1", "need integers or truth values"),
        ("n << 0.5", "<< needs integers"),
        ("n @ n", "no MatMult"),
        ("int(n and x)", "'n' is not a truth value; write n != 0"),
        ("int(not n)", "'n' is not a truth value"),
        ("n if n else 2", "'n' is not a truth value"),
        ("v[-1]", "do not count from the end"),
        ("v[x]", "an index is an int, not a float"),
        ("v[0:1]", "cannot compile '0:1'"),
        ("n[0]", "n is not an array"),
        ("v + 1", "v is an array"),
        ("pair + 1", "'pair' is neither|pair may have no value"),
        ("unknown + 1", "'unknown' is neither a variable nor a global name"),
        ("TEXT", "TEXT is no number"),
        ("LARGE", "LARGE is no number of 64 bits"),
        ("n is n", "cannot compile"),
        ("n in v", "cannot compile|is an array"),
        ("(m := 2)", "cannot compile"),
        ("sum(v)", "this function is not compiled"),
        ("math.floor(x)", "'math' is neither"),
        ("int(x, 2)", "number of arguments is wrong"),
        ("min(n)", "number of arguments is wrong"),
        ("bump(v)", "takes 2 arguments, not 1"),
        ("bump(v, x)", "is int, not float"),
        ("bump(n, n)", "not int"),
        ("bump(w, n)", "not double"),
        ("bump(values=v, n=n)", "without names"),
        ("bump(*v)", "without names"),
        ("of_pair(other)", "pair of of_pair is another NamedTuple than other"),
        ("nothing(v)", "has no value"),
    ],
)
def test_refused(expression: str, message: str, tmp_path: Path) -> None:
    header = "def program(n: int, x: float, v: Ints, w: Floats, pair: Pair, other: OtherPair) -> int:\n"
    function = written(f"{header}    m = 0\n    return {expression}\n", tmp_path)
    function.__globals__.update(globals())
    with pytest.raises((SyntaxError, TypeError), match=f"test_expressions.program, line 3: .*({message})"):
        Compiled(function)(1, 1.0, 0, 0, 0, 0, 0, 0)


@compiled
def nothing(values: Ints) -> None:
    values[0] = 0
