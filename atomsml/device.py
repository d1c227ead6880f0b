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
    """The torch device that `device` ("auto", "cpu", "cuda", "cuda:1", "mps") means on this machine.

    Raises:
        ValueError: no such device, here or at all, or one that cannot hold the precision; says which there are.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if device == "auto":
        return torch.device(next(d for d in available if d != "mps" or precision == "float32"))
    if not isinstance(device, str) or not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise ValueError(f"unknown device {device!r}; choose auto, cpu, cuda or mps")
    kind, _, index = device.partition(":")
    if kind not in available or (index and int(index) >= torch.cuda.device_count()):
        raise ValueError(f"device {device!r} is not available here; available: {', '.join(available)}")
    if kind == "mps" and precision != "float32":
        raise ValueError(f"device 'mps' has no float64, which precision {precision!r} needs; use precision 'float32'")
    return torch.device(device)


def capturing(device: torch.device) -> bool:
    """While a CUDA graph is captured, nothing may wait for the device: no size and no branch depends on its data."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@lru_cache
def constant_index(numbers: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Integers known beforehand, kept on the device: while a CUDA graph is captured none can be sent there."""
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return torch.tensor(numbers, device=device)
