"""Devices and precisions, and what must be minded because work on a device may be recorded as a CUDA graph."""

from __future__ import annotations

import re
from functools import lru_cache

import torch

# precision -> (of the graph, of the network)
PRECISIONS = {
    "float32": (torch.float32, torch.float32),
    "mixed": (torch.float64, torch.float32),
    "float64": (torch.float64, torch.float64),
}


def select_device(device: str, precision: str) -> torch.device:
    """The torch device that "auto", "cpu", "cuda", "cuda:N" or "mps", in any case, means on this machine.

    "auto" takes a GPU that can hold the precision, if there is one.

    Raises:
        ValueError: no such device, here or at all, or one that cannot hold the precision; says which there are.
    """
    name = str(device).lower()
    if not re.fullmatch(r"auto|cpu|(mps|cuda)(:\d+)?", name):
        raise ValueError(f"unknown device {device!r}; choose auto, cpu, cuda, cuda:N or mps")
    available = _available()
    if name == "auto":
        return torch.device(next(d.type for d in available if precision == "float32" or has_float64(d)))
    found = torch.device(name)
    if not any(found.type == d.type and found.index in (None, d.index) for d in available):
        raise ValueError(f"device {device!r} is not available here; available: {', '.join(map(str, available))}")
    if precision != "float32" and not has_float64(found):
        raise ValueError(f"device {device!r} has no float64, which precision {precision!r} needs; take 'float32'")
    return found


def _available() -> list[torch.device]:
    """The devices of this machine, the fastest first."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    mps = [torch.device("mps", 0)] if torch.backends.mps.is_available() else []
    return [*(torch.device("cuda", i) for i in gpus), *mps, torch.device("cpu")]


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64; Apple's MPS does not."""
    return device.type != "mps"


def capturing(device: torch.device) -> bool:
    """While a CUDA graph is captured, nothing may wait for the device: no size and no branch depends on its data."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@lru_cache
def constant_index(numbers: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Integers known beforehand, kept on the device: while a CUDA graph is captured none can be sent there."""
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return torch.tensor(numbers, device=device)
