"""What messages are told of distances: Gaussians of log(1 + distance), narrow where bonds are and wide far away."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DISTANCES = 24  # Gaussians of log(1 + distance)
FARTHEST = 12.0  # their last centre, in the unit of the positions
WIDTH = math.log1p(FARTHEST) / (DISTANCES - 1)
LOWEST = 20.0  # they end at e^-20: numbers too small for normal floating point would make everything slow


def distance_features(distances: Tensor) -> Tensor:
    """(...) -> (..., DISTANCES)"""
    return log_features(torch.log1p(distances))


def log_features(logarithms: Tensor) -> Tensor:
    """The same of log(1 + distance)."""
    centres = torch.linspace(0, math.log1p(FARTHEST), DISTANCES, dtype=logarithms.dtype, device=logarithms.device)
    squared = ((logarithms[..., None] - centres) * (math.sqrt(0.5) / WIDTH)).square()
    return torch.exp(-squared.clamp(max=LOWEST))
