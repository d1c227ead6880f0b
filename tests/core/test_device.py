"""Which device a name means: one rule for commands, configs and calculators."""

from __future__ import annotations

import pytest
import torch

from atomsml.device import select_device
from atomsml.testing import pretended_device

only_a_cpu = pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="about a machine without a GPU"
)


def test_names_in_any_case() -> None:
    with pretended_device("cuda"):
        for name in ("cuda", "CUDA", "Cuda"):
            assert select_device(name, "mixed") == torch.device("cuda")  # without a number: that of the process
        assert select_device("CUDA:0", "mixed") == torch.device("cuda", 0)
        assert select_device("CPU", "mixed") == torch.device("cpu")
        assert select_device("Auto", "mixed") == torch.device("cuda")
    with pretended_device("mps"):
        assert select_device("MPS", "float32").type == "mps"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda1", "cuda:-1", "cpu:0", "", "xpu", None])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown device {name!r}; choose auto, cpu, cuda, cuda:N or mps"):
        select_device(name, "mixed")


@only_a_cpu
def test_devices_that_are_not_here_are_refused() -> None:
    assert select_device("auto", "mixed") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ValueError, match=f"device '{name}' is not available here; available: cpu"):
            select_device(name, "float32")
    with pretended_device("cuda"), pytest.raises(ValueError, match=r"'cuda:1' is not .*; available: cuda:0, cpu"):
        select_device("cuda:1", "mixed")


@only_a_cpu
def test_mps_is_offered_where_it_holds_the_precision() -> None:
    with pretended_device("mps"):
        assert select_device("auto", "float32").type == "mps"
        for precision in ("mixed", "float64"):
            assert select_device("auto", precision).type == "cpu"
            with pytest.raises(ValueError, match=f"no float64, which precision {precision!r} needs; take 'float32'"):
                select_device("mps", precision)
