"""What must be minded because the work on a device may be recorded as a CUDA graph."""

from functools import lru_cache

import torch


def capturing(device: torch.device) -> bool:
    """While a CUDA graph is captured, nothing may wait for the device: no size and no branch depends on its data."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@lru_cache
def constant_index(numbers: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Integers known beforehand, kept on the device: while a CUDA graph is captured none can be sent there."""
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return torch.tensor(numbers, device=device)
