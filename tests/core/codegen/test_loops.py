"""Compiled loops: each function gives what Python gives when it runs the same function."""

from __future__ import annotations

import gc
from math import ceil, floor, inf, nan, sqrt
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding

from atomsml.codegen.loops import Bools, Compiled, Floats, Ints, compiled, fused

FACTOR, OFFSET = 3, 0.25


@compiled
def integers(a: int, b: int, out: Ints) -> int:
    out[0], out[1], out[2], out[3] = a + b, a - b, a * FACTOR, -a
    out[4], out[5] = a // b, a % b
    out[6], out[7], out[8], out[9] = a & b, a | b, a >> 2, b << 3
    out[10], out[11], out[12] = min(a, b, 7), max(a, b), abs(a)
    out[13] = a if a < b else b + 1
    return int(a == b) + 2 * int(a != b) + 4 * int(a <= b < 9) + 8 * int(not a > b)


@compiled
def floats(x: float, y: float, n: int, out: Floats) -> float:
    out[0], out[1], out[2], out[3] = x + y, x - y * n, x / y, -x
    out[4], out[5], out[6] = floor(x), ceil(y), sqrt(abs(x))
    out[7], out[8] = min(x, y), max(x, n)
    out[9] = float(int(x)) + OFFSET
    out[9] += x
    x, y = y, x
    out[10], out[11] = x, y
    return n / 2 if x >= y else 1e-3


@compiled
def comparisons(x: float, y: float) -> int:
    return int(x < y) + 2 * int(x == y) + 4 * int(x != y) + 8 * int(x >= y) + 16 * int(not abs(x) < inf)


@compiled
def count_down(values: Ints, flags: Bools, n: int) -> int:
    """Stops at the end of the array, beyond which it must not look."""
    i, steps = 0, 0
    while i < n and (flags[i] or values[i] > 10):
        if values[i] % 2 == 0:
            for j in range(1, values[i]):
                steps += j
        else:
            steps += 1000
        i += 1
    return steps


class Pair(NamedTuple):
    values: Floats
    scale: float
    size: int


@compiled
def total(p: Pair, first: int) -> float:
    result = 0.0
    for i in range(first, p.size):
        result += p.values[i] * p.scale
    return result


@compiled
def totals(p: Pair, out: Floats) -> None:
    for i in range(p.size):
        out[i] = total(p, i)
        if i == 2:
            out[i] = total(p, 1) + 1


def both(function: Compiled, *arguments: object) -> None:
    """Arrays and result after the compiled and after the Python function are the same."""
    copies = [x.copy() if isinstance(x, np.ndarray) else x for x in arguments]
    expected = function.function(*copies)
    found = function(*(x.ctypes.data if isinstance(x, np.ndarray) else x for x in arguments))
    assert found == expected
    for a, b in zip(arguments, copies, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)


settings.register_profile("loops", max_examples=60, deadline=None, derandomize=True, database=None)


@settings(settings.get_profile("loops"))
@given(st.integers(-(2**40), 2**40), st.integers(-(2**20), 2**20).filter(lambda b: b != 0))
def test_integers(a: int, b: int) -> None:
    both(integers, a, b, np.zeros(14, np.int64))


@settings(settings.get_profile("loops"))
@given(st.floats(-1e15, 1e15), st.floats(1e-9, 1e9), st.integers(-1000, 1000))
def test_floats(x: float, y: float, n: int) -> None:
    both(floats, x, y, n, np.zeros(12))


@pytest.mark.parametrize("x", [0.0, -1.5, inf, nan])
@pytest.mark.parametrize("y", [0.0, 2.0, -inf, nan])
def test_comparisons_with_infinity_and_nan(x: float, y: float) -> None:
    both(comparisons, x, y)


@pytest.mark.parametrize("flags", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0]])
def test_branches_and_loops(flags: list[int]) -> None:
    both(count_down, np.array([4, 3, 12, 20]), np.array(flags, dtype=bool), 4)


def test_named_tuples_and_calls() -> None:
    values, found = np.arange(5.0), np.zeros(5)
    totals(*Pair(values.ctypes.data, 0.5, 5), found.ctypes.data)
    np.testing.assert_array_equal(found, [5, 5, 6, 3.5, 2])


def test_a_float_does_not_become_an_integer_silently() -> None:
    @compiled
    def halves(n: int) -> int:
        n = n / 2  # type: ignore[assignment]
        return n

    with pytest.raises(TypeError, match="n is int, not float; use int"):
        halves(3)


def test_refuses_other_python() -> None:
    @compiled
    def with_a_list(n: int) -> int:
        return sum([n])

    with pytest.raises(SyntaxError, match="this function is not compiled"):
        with_a_list(3)


def test_one_function_may_be_freed_while_others_live() -> None:
    first = Compiled(comparisons.function)
    assert first(1.0, 2.0) == comparisons(1.0, 2.0) == 5
    del first
    gc.collect()
    again = Compiled(comparisons.function)
    assert again(1.0, 2.0) == comparisons(1.0, 2.0) == 5


def test_fused_products_are_not_rounded_where_the_processor_can_do_so():
    def sum_of_product(x: float, y: float, z: float) -> float:
        return x * y + z

    x, rounded = 1 + 2.0**-30, -(1 + 2.0**-29)
    assert compiled(sum_of_product)(x, x, rounded) == sum_of_product(x, x, rounded) == 0
    can = binding.get_host_cpu_features().get("fma", False)
    assert fused(sum_of_product)(x, x, rounded) in ((2.0**-60,) if can else (0.0, 2.0**-60))
