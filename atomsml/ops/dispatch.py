"""Which kernels an operation has on a device."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

MODULES = {"cpu": "cpu", "cuda": "triton"}  # type of device -> module in the folder of an operation


@lru_cache
def kernels(operation: str, device: torch.device) -> Any:
    """The module `atomsml.ops.<operation>.cpu` or `.triton`, or None: then the reference in plain torch does it."""
    module = MODULES.get(device.type)
    if module is None or (module == "triton" and not find_spec("triton")):
        return None
    name = f"atomsml.ops.{operation}.{module}"
    return import_module(name) if find_spec(name) else None
