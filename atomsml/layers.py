"""Small modules that architectures share. Weights start as N(0, 1); forward scales them by 1 / sqrt(fan in)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# E[silu(x)^2]^(-1/2) for x ~ N(0, 1): the activation keeps unit variance (e3nn's and MACE's constant)
SILU_GAIN = 1.6791767923989418


def silu(x: Tensor) -> Tensor:
    """SiLU with unit second moment for a standard normal input."""
    return SILU_GAIN * nn.functional.silu(x)


class MLP(nn.Module):
    """Bias-free perceptron: linear maps of the given widths with SiLU between them, none after the last."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b)) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for i, weight in enumerate(self.weights):
            x = (silu(x) if i > 0 else x) @ (weight / math.sqrt(weight.shape[0]))
        return x


class IrrepLinear(nn.Module):
    """A linear map of the channels of each degree l on its own: the equivariant linear layer.

    Args:
        channels_in: number of input channels of each degree l = 0, 1, ...
        channels_out: the same for all degrees.
    """

    def __init__(self, channels_in: Sequence[int], channels_out: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(c, channels_out)) for c in channels_in)

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """[(atoms, 2l + 1, channels_in[l]) for each l] -> (atoms, (lmax + 1)^2, channels_out)."""
        mapped = [x @ (w / math.sqrt(len(w))) for x, w in zip(blocks, self.weights, strict=True)]
        return torch.cat(mapped, dim=1)


class ElementLinear(nn.Module):
    """A linear map of the channels of each degree l with one matrix per element.

    It is the fully connected product of features with one-hot elements, hence the scale 1 / sqrt(channels * elements).
    """

    def __init__(self, num_elements: int, channels: int, lmax: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(num_elements, channels, channels)) for _ in range(lmax + 1)
        )

    def forward(self, features: Tensor, species: Tensor) -> Tensor:
        """(atoms, at least (lmax + 1)^2, channels) -> (atoms, (lmax + 1)^2, channels)."""
        num_elements, channels, _ = self.weights[0].shape
        scale = 1.0 / math.sqrt(num_elements * channels)
        out = features.new_zeros(len(features), len(self.weights) ** 2, channels)
        for s in species.unique().tolist():
            (atoms,) = torch.nonzero(species == s, as_tuple=True)
            mine = features[atoms]
            mapped = [mine[:, l * l : (l + 1) ** 2] @ (w[s] * scale) for l, w in enumerate(self.weights)]
            out = out.index_copy(0, atoms, torch.cat(mapped, dim=1))
        return out


def irrep_blocks(features: Tensor, lmax: int) -> list[Tensor]:
    """(atoms, (lmax + 1)^2, channels) -> one (atoms, 2l + 1, channels) view per l."""
    return [features[:, l * l : (l + 1) ** 2] for l in range(lmax + 1)]
