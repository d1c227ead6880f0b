"""Plans carry out what was planned: in order, with the scratch memory of whoever runs them."""

import multiprocessing
import os

import pytest
import torch

from atomsml.codegen.checks import checked_indices
from atomsml.codegen.kernels import Code
from atomsml.codegen.machine import lanes
from atomsml.programs.plan import FIRST, LAST, NUMBER, Part, Plan, Rows, carry_out
from atomsml.programs.rows import add_kernel, zero_kernel

F64 = torch.float64
SIZE = 4 * lanes(F64)


@pytest.mark.usefixtures("both_ways")
def test_calls_are_carried_out_in_order_and_again() -> None:
    x, y = torch.ones(SIZE, dtype=F64), torch.full((SIZE,), 3.0, dtype=F64)
    plan = Plan(torch.empty(0))
    plan.add(zero_kernel(F64), [x], SIZE)
    plan.add(add_kernel(F64), [x, y], SIZE)
    plan.run(torch.empty(0))
    assert x.tolist() == [3.0] * SIZE
    plan.add(add_kernel(F64), [x, y], SIZE - lanes(F64))  # a plan may grow after it was run
    plan.run(torch.empty(0))
    assert x.tolist() == [6.0] * (SIZE - lanes(F64)) + [3.0] * lanes(F64)


def test_arrays_stay_alive_with_the_plan() -> None:
    x, plan = torch.zeros(SIZE, dtype=F64), Plan(torch.empty(0))
    plan.add(add_kernel(F64), [x, torch.full((SIZE,), 2.0, dtype=F64)], SIZE)
    rubbish = [torch.full((SIZE,), 9.0, dtype=F64) for _ in range(100)]
    plan.run(torch.empty(0))
    assert x.tolist() == [2.0] * SIZE
    assert len(rubbish) == 100


def test_what_a_kernel_does_not_take_is_refused_when_it_is_added() -> None:
    x, plan = torch.ones(SIZE, dtype=F64), Plan(torch.empty(0))
    for arrays, counts, message in (
        ([x], [SIZE], "takes 2 arrays \\(x, y\\), not 1"),
        ([x, x.clone()], [], "takes 1 counts \\(count\\), not 0"),
        ([x, x.float()], [SIZE], "a contiguous y of torch.float64, not torch.float32"),
        ([x, x[::2]], [SIZE], "a contiguous y of torch.float64"),
    ):
        with pytest.raises(TypeError, match=f"kernel `add` takes .*{message.removeprefix('takes ')}"):
            plan.add(add_kernel(F64), arrays, *counts)
    plan.run(torch.empty(0))
    assert x.unique().tolist() == [1.0]


@pytest.mark.usefixtures("both_ways")
def test_scratch_is_that_of_the_caller() -> None:
    template, mine = torch.zeros(2 * SIZE, dtype=F64), torch.zeros(2 * SIZE, dtype=F64)
    y, plan = torch.ones(SIZE, dtype=F64), Plan(template)
    plan.add(add_kernel(F64), [template[SIZE:], y], SIZE)
    plan.run(mine)
    assert not template.any()
    assert mine.tolist() == [0.0] * SIZE + [1.0] * SIZE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    def fill() -> torch.Tensor:
        x = torch.zeros(8, SIZE, dtype=F64)
        blocks = [torch.empty(SIZE, dtype=F64) for _ in range(2)]
        plans = [Plan(blocks[0]) for _ in range(8)]
        for i, plan in enumerate(plans):
            plan.add(add_kernel(F64), [x[i], torch.ones(SIZE, dtype=F64)], SIZE)
        parts = [Part(plan) for plan in plans]
        carry_out([parts, parts], blocks)
        return x

    assert fill().unique().tolist() == [2.0]
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(int(fill().sum()) // SIZE))
    child.start()
    child.join(60)
    assert child.exitcode == 16


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_steps_wait_for_each_other(threads: int) -> None:
    """Fibonacci's numbers: each step adds what the one before it has made."""
    blocks = [torch.empty(SIZE, dtype=F64) for _ in range(threads)]
    x, y = torch.ones(20, SIZE, dtype=F64), torch.zeros(20, SIZE, dtype=F64)
    steps = []
    for source, target in ((x, y), (y, x)) * 3:
        plans = [Plan(blocks[0]) for _ in range(20)]
        for i, plan in enumerate(plans):
            plan.add(add_kernel(F64), [target[i], source[19 - i]], SIZE)
        steps.append([Part(plan) for plan in plans])
    carry_out(steps, blocks)
    assert x.unique().tolist() == [13.0]  # 1 1 2 3 5 8 13
    assert y.unique().tolist() == [8.0]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(("first", "last"), [(0, 7), (2, 7), (3, 3), (0, 1), (1, 13)])
def test_a_plan_is_a_template_for_any_range_of_atoms(first: int, last: int) -> None:
    """Rows move with the chunk, scratch memory does not."""
    x = torch.arange(13 * SIZE, dtype=F64).view(13, SIZE)
    y, mine, template = (
        torch.zeros(13, SIZE, dtype=F64),
        torch.empty(4 * SIZE, dtype=F64),
        torch.empty(4 * SIZE, dtype=F64),
    )
    plan = Plan(template, chunk=4)
    plan.add(zero_kernel(F64), [template], NUMBER * SIZE)
    plan.add(add_kernel(F64), [template, Rows(x)], NUMBER * SIZE)
    plan.add(add_kernel(F64), [Rows(y), template], NUMBER * SIZE)
    plan.run(mine, first, last)
    inside = torch.zeros(13, 1, dtype=F64)
    inside[first:last] = 1.0
    assert torch.equal(y, inside * x)


@pytest.mark.usefixtures("both_ways")
def test_counts_are_those_of_the_chunk() -> None:
    code = Code("note_chunk", ["seen_index"], ["first", "last", "number"], F64)
    code["seen_index"][code.counts["first"] * 2] = code.counts["last"]
    code["seen_index"][code.counts["first"] * 2 + 1] = code.counts["number"]
    kernel, seen = code.finish(), torch.full((26,), -1)
    plan = Plan(torch.empty(0), chunk=5)
    plan.add(kernel, [seen], FIRST, LAST, NUMBER * 3)
    plan.run(torch.empty(0), 1, 13)
    found = {i // 2: seen[i : i + 2].tolist() for i in range(0, 26, 2) if seen[i] >= 0}
    assert found == {1: [6, 15], 6: [11, 15], 11: [13, 6]}
    with checked_indices():
        kernel = zero_kernel(F64)
    plan = Plan(torch.empty(0), chunk=5)
    plan.add(kernel, [Rows(torch.empty(12, SIZE, dtype=F64))], NUMBER * SIZE)
    plan.run(torch.empty(0), 1, 12)
    with pytest.raises(IndexError, match=f"x\\[{SIZE}:{SIZE + lanes(F64)}\\] of {SIZE} numbers"):  # from row 11 on
        plan.run(torch.empty(0), 1, 13)
