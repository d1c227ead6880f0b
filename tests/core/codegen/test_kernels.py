"""Kernels take what they were written for and nothing else; the rest is tested with the operations."""

from __future__ import annotations

import pytest
import torch

from atomsml.codegen.checks import checked_indices
from atomsml.codegen.kernels import Code, Kernel
from atomsml.codegen.values import Value


def kernel() -> Kernel:
    """y = x where index >= 0."""
    code = Code("some", ["x", "y", "which_index"], ["n"], torch.float32)

    def number(i: Value) -> None:
        with code.when(code["which_index"][i] >= 0):
            code["y"][i] = code["x"][i]

    code.loop(0, code.counts["n"], number)
    return code.finish()


X, WHICH = torch.arange(4, dtype=torch.float32), torch.tensor([0, -1, 2, -3])


@pytest.mark.parametrize("checked", [False, True])
def test_what_is_written_under_a_condition(checked: bool) -> None:
    y = torch.full_like(X, 9.0)
    with checked_indices(checked):
        kernel()([X, y, WHICH], 4)
    assert y.tolist() == [0.0, 9.0, 2.0, 9.0]


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize(
    ("arrays", "counts", "message"),
    [
        ([X, X], [4], r"kernel `some` takes 3 arrays \(x, y, which_index\), not 2"),
        ([X, X, WHICH, WHICH], [], r"takes 3 arrays \(x, y, which_index\), not 4"),
        ([X, X, WHICH], [], r"takes 1 counts \(n\), not 0"),
        ([X, X, WHICH], [4, 4], r"takes 1 counts \(n\), not 2"),
    ],
)
def test_another_number_of_arguments(
    checked: bool, arrays: list[torch.Tensor], counts: list[int], message: str
) -> None:
    with checked_indices(checked):
        some = kernel()
    with pytest.raises(TypeError, match=message):
        some(arrays, *counts)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([X.double(), X, WHICH], "takes a contiguous x of torch.float32, not torch.float64"),
        ([X, X, WHICH.int()], "contiguous which_index of torch.int64, not torch.int32"),
        ([X, X[::2], WHICH], "contiguous y of torch.float32, not .* with strides"),
    ],
)
def test_another_kind_of_array(arrays: list[torch.Tensor], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        kernel().check_arguments(arrays, [4])


def test_a_value_has_no_truth_while_the_kernel_is_written() -> None:
    code = Code("some", ["x"], ["n"], torch.float32)
    with pytest.raises(TypeError, match="not known while the kernel is written"):
        bool(code.counts["n"] > 1)


def test_kinds_that_do_not_go_together() -> None:
    code = Code("some", ["x"], ["n"], torch.float32)
    vector, number = code.load(code["x"], 0), code["x"][0]
    with pytest.raises(TypeError, match="does not go together"):
        vector * number
    with pytest.raises(TypeError, match="an index is an int, not a float32"):
        code["x"][number]
    with pytest.raises(TypeError, match="// needs integers"):
        number // 2
