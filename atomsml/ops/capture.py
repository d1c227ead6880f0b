"""Whether the work on a device is being recorded as a CUDA graph."""

import torch


def capturing(device: torch.device) -> bool:
    """While a CUDA graph is captured, nothing may wait for the device: no size and no branch depends on its data."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
