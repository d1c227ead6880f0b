"""The processor at hand: its registers, and LLVM text made into machine code for it.

LLVM comes as the wheel of llvmlite, so that nobody needs a compiler.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock

import torch
from llvmlite import binding
from torch.nn.functional import pad

_COMPILER = Lock()  # LLVM compiles for one thread at a time


def object_code(text: str, optimise: bool = False) -> bytes:
    """A module of LLVM as an object file.

    Args:
        optimise: run LLVM's passes first, which loops over single numbers need, and vectors written out do not.
    """
    with _COMPILER:
        machine, module = _target_machine(), binding.parse_assembly(text)
        if optimise:
            passes = binding.create_pass_builder(machine, binding.PipelineTuningOptions(speed_level=2))
            passes.getModulePassManager().run(module, passes)
        return bytes(machine.emit_object(module))


class MachineCode:
    """One function of an object file, in memory for as long as this object lives."""

    def __init__(self, code: bytes, name: str) -> None:
        with _COMPILER:
            self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target_machine())
            self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
            self._engine.finalize_object()  # the engine owns the code
        self.address: int = self._engine.get_function_address(name)


def processor() -> tuple[str, str, str]:
    """What code is made for: system, name of the processor, and its features."""
    features = binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"
    return binding.get_default_triple(), binding.get_host_cpu_name(), features


def _target_machine() -> binding.TargetMachine:
    """With 512-bit vectors where there are some (LLVM would rather split those).

    Each engine needs its own, because it takes it along when it is freed.
    """
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    triple, name, features = processor()
    return binding.Target.from_triple(triple).create_target_machine(cpu=name, features=features, opt=2, jit=True)


@lru_cache
def lanes(dtype: torch.dtype) -> int:
    """Numbers in one vector register."""
    features = binding.get_host_cpu_features()
    register = 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
    return register // dtype.itemsize


@lru_cache
def registers() -> int:
    """Number of vector registers."""
    return 32 if binding.get_host_cpu_features().get("avx512f") or "aarch64" in _target_machine().triple else 16


def whole_vectors(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, with channels (the last axis) of zeros that fill the last vector."""
    missing = whole(x.shape[-1], x.dtype) - x.shape[-1]
    return pad(x, (0, missing)) if missing else x.contiguous()


def whole(size: int, dtype: torch.dtype) -> int:
    """The next number of channels that fills whole vectors."""
    return size + -size % lanes(dtype)
