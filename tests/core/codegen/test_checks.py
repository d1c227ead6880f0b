"""A wrong index raises IndexError with kernel, array and index, in every way to write a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from atomsml.codegen.checks import address, addresses, checked_indices, checking
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.loops import Bools, Floats, Ints, compiled
from atomsml.codegen.machine import lanes
from atomsml.codegen.values import DOUBLE, Value
from atomsml.programs.plan import Plan

F32, F64 = torch.float32, torch.float64
LANES = lanes(F64)


def kernel(write: Callable[[Code, Value], None], dtype: torch.dtype = F64) -> Kernel:
    """Of arrays x and where_index, does something for each of n numbers."""
    code = Code("example", ["x", "where_index"], ["n"], dtype)
    code.loop(0, code.counts["n"], lambda i: write(code, i))
    return code.finish()


def load_vector(code: Code, i: Value) -> None:
    code.store(code.load(code["x"].row(i, LANES), 0) + code.constant(1.0), code["x"], 0)


def load_number(code: Code, i: Value) -> None:
    code["x"][0] = code["x"][0].to(DOUBLE) + code["x"].row(code["where_index"][i], 2).doubles(2)[1]


def store_number(code: Code, i: Value) -> None:
    (code["x"] + 3)[code["where_index"][i]] = code.double(7.0)


def add_sums(code: Code, i: Value) -> None:
    code.add_lane_sums([code.constant(1.0)] * 3, code["x"] + code["where_index"][i])


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(
    ("write", "where", "message"),
    [
        (store_number, [0, 5, 20], r"kernel `example`: x\[23\] of 16 numbers"),
        (store_number, [0, -4, 20], r"kernel `example`: x\[-1\] of 16 numbers"),
        (load_number, [7, 8], r"kernel `example`: x\[16\] of 16 numbers"),
        (load_number, [2**62 - 1], r"kernel `example`: x\[\d+\] of 16 numbers"),
        (add_sums, [13, 14], r"kernel `example`: x\[16\] of 16 numbers"),
    ],
)
def test_numbers(write: Callable[[Code, Value], None], where: list[int], message: str, dtype: torch.dtype) -> None:
    with checked_indices():
        wrong = kernel(write, dtype)
    with pytest.raises(IndexError, match=f"^{message}$"):
        wrong([torch.zeros(16, dtype=dtype), torch.tensor(where)], len(where))
    wrong([torch.zeros(16, dtype=dtype), torch.tensor(where[:1])], 0)


def test_vectors_and_what_happens_before() -> None:
    x = torch.zeros(3 * LANES + 1, dtype=F64)
    with checked_indices():
        wrong = kernel(load_vector)
    wrong([x, torch.tensor([0])], 3)
    message = rf"x\[{3 * LANES}:{4 * LANES}\] of {3 * LANES + 1} numbers"
    with pytest.raises(IndexError, match=message):
        wrong([x, torch.tensor([0])], 4)
    assert x[:LANES].tolist() == [1.0] * LANES  # what came before is done
    with pytest.raises(IndexError, match=r"where_index\[1\] of 1 numbers"), checked_indices():
        kernel(load_number)([x, torch.tensor([0])], 2)


def test_plans() -> None:
    x, scratch = torch.zeros(8, dtype=F64), torch.zeros(4, dtype=F64)
    with checked_indices():
        wrong, plan = kernel(store_number), Plan(scratch)
    plan.add(wrong, [x, torch.tensor([1, 2])], 2)
    plan.run(scratch)
    assert x.tolist() == [0, 0, 0, 0, 7, 7, 0, 0]
    plan.add(wrong, [scratch, torch.tensor([0, 1])], 2)
    with pytest.raises(IndexError, match=r"x\[4\] of 4 numbers"):
        plan.run(torch.zeros(4, dtype=F64))


class Numbers(NamedTuple):
    values: Floats
    flags: Bools


@compiled
def element(numbers: Numbers, i: int) -> float:
    return numbers.values[i]


@compiled
def total(numbers: Numbers, where: Ints, n: int) -> float:
    result = 0.0
    for i in range(n):
        if numbers.flags[i]:
            result += element(numbers, where[i])
    where[0] = -1
    return result


def call(values: Tensor, flags: list[bool], where: Tensor, n: int) -> float:
    which = torch.tensor(flags)  # must live as long as its address is used
    return total(address(values), address(which), address(where), n)


def test_compiled_functions_and_those_they_call() -> None:
    values, where = torch.arange(3, dtype=F64), torch.tensor([1, 2, 3])
    assert call(values, [True] * 3, where.clone(), 2) == 3.0
    with checked_indices():
        assert call(values, [True, True, False], where.clone(), 3) == 3.0
        with pytest.raises(IndexError, match=r"test_checks.element, line \d+: numbers.values\[3\] of 3 numbers"):
            call(values, [True] * 3, where, 3)
        assert where.tolist() == [1, 2, 3]  # it stopped
        with pytest.raises(IndexError, match=r"test_checks.total, line \d+: numbers.flags\[2\] of 2 numbers"):
            call(values, [True] * 2, where, 3)
        with pytest.raises(TypeError, match="0 of 3 arrays tell their length"):
            total(values.data_ptr(), 0, where.data_ptr(), 0)


def test_pieces_of_one_memory_know_their_lengths() -> None:
    memory = torch.arange(5, dtype=F64)
    assert addresses(memory.data_ptr(), [0, 16, 40]) == [memory.data_ptr(), memory.data_ptr() + 16]
    with checked_indices():
        first, second = addresses(memory.data_ptr(), [0, 16, 40])
        flags = address(torch.ones(1, dtype=torch.bool))
        assert element(second, flags, 2) == 4.0
        with pytest.raises(IndexError, match=r"values\[2\] of 2 numbers"):
            element(first, flags, 2)


def test_both_sorts_are_kept_apart() -> None:
    @built_once
    def build(dtype: torch.dtype) -> Kernel:
        return kernel(store_number, dtype)

    plain = build(F64)
    with checked_indices():
        assert checking()
        checked = build(F64)
        with checked_indices(False):
            assert build(F64) is plain
        assert build(F64) is checked
    assert build(F64) is plain
    assert (plain.checked, checked.checked) == (False, True)


def test_without_checks_no_instruction_is_for_them() -> None:
    compared = "icmp"
    assert kernel(store_number).text.count(compared) == 1  # the end of the loop
    with checked_indices():
        assert kernel(store_number).text.count(compared) > 1
