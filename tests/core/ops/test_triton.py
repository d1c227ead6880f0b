"""The Triton kernels where there is no GPU: run by Triton's interpreter, and compiled for GPUs that are not here."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from atomsml.ops.contraction import operation as contraction
from atomsml.ops.convolution import convolution_table
from atomsml.ops.convolution import operation as convolution

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed; pip install -e .[test]")


@pytest.mark.parametrize("file", ["convolution/test_triton.py", "contraction/test_triton.py"])
def test_in_the_interpreter(file: str) -> None:
    """In a process of its own, since Triton decides at its import whether it interprets."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent / file)]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_gpu_tensors_get_these_kernels() -> None:
    from atomsml.ops.contraction import triton as contraction_triton
    from atomsml.ops.convolution import triton as convolution_triton

    assert convolution._kernels(torch.device("cuda", 1)) is convolution_triton
    assert contraction._kernels(torch.device("cuda", 1)) is contraction_triton
    assert convolution._kernels(torch.device("mps")) is None
    assert contraction._kernels(torch.device("mps")) is None


def compiled(kernel: Any, target: tuple[str, int | str, int], constants: Mapping[str, int], float_type: str) -> str:
    """The machine's assembly, from arguments by their name: indices, numbers of things, arrays of floats."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    indices = {"row_start", "sender", "weight_row", "species", "terms", "start", "order", "output"}
    counts = {"columns", "rows", "num_terms", "channels", "first_output"}
    types = dict.fromkeys(kernel.arg_names, f"*{float_type}") | dict.fromkeys(counts, "i32")
    types |= dict.fromkeys(indices, "*i64") | dict.fromkeys(constants, "constexpr")
    signature = {name: types[name] for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    options = {"num_warps": 1, "enable_fp_fusion": True}
    return compile(source, target=GPUTarget(*target), options=options).asm["ptx" if target[0] == "cuda" else "amdgcn"]


@pytest.mark.parametrize("target", [("cuda", 80, 32), ("hip", "gfx942", 64)])
@pytest.mark.parametrize("float_type", ["fp32", "fp64"])
def test_compiles(
    target: tuple[str, int | str, int], float_type: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The interpreter forgives what a compiler does not, such as variables that change their type in a loop."""
    from atomsml.ops.contraction import triton as contraction_triton
    from atomsml.ops.convolution import triton as convolution_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    table = convolution_table(1, 1, 1)
    kernels = [
        (convolution_triton.convolution_kernel(kind, table), {"channels": 40, "BLOCK": target[2]})
        for kind in ("forward", "double_backward")
    ]
    kernels += [
        (kernel, {"ALONG": True, "TERMS": 8, "CHANNELS": target[2]})
        for kernel in (contraction_triton._polynomial, contraction_triton._coefficient_gradient)
    ]
    for kernel, constants in [*kernels, (convolution_triton._sum_rows, {"COLUMNS": 256})]:
        assembly = compiled(kernel, target, constants, float_type)
        double = "f64" in assembly
        assert double == (float_type == "fp64")  # nothing is computed in another type
