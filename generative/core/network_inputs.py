"""What networks are told of the time, and of all pairs of points of a sample."""

from __future__ import annotations

import torch
from torch import Tensor

TIMES = 8  # frequencies of the time


def time_features(time: Tensor) -> Tensor:
    """(...) -> (..., 2 TIMES): sines and cosines of frequencies that double."""
    angles = time[..., None] * (torch.pi / 2) * 2.0 ** torch.arange(TIMES, device=time.device, dtype=time.dtype)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def pair_distances(x: Tensor) -> Tensor:
    """(samples, nodes, nodes) of positions (samples, nodes, 3), with a gradient where points meet."""
    return _lengths(_differences(x))


def directions(x: Tensor) -> tuple[Tensor, Tensor]:
    """log(1 + |r_ij|) and r_ij / (1 + |r_ij|), as `ops/pair_messages/` wants them.

    r_ij = x_j - x_i goes from the receiver i to the sender j; shapes are (samples, nodes, nodes) and the same times 3.
    """
    differences = _differences(x)
    lengths = _lengths(differences)
    return torch.log1p(lengths), differences / (1 + lengths)[..., None]


def _differences(x: Tensor) -> Tensor:
    return x[:, None] - x[:, :, None]


def _lengths(differences: Tensor) -> Tensor:
    squares = differences.square() @ differences.new_ones(3)  # a sum over three numbers takes four times as long
    return torch.sqrt(squares + 1e-6)
