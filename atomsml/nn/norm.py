"""Layer normalisations of equivariant features, which EquiformerV2 compares (Liao et al., arXiv:2306.12059).

`SeparableLayerNorm` is its own (section 4.3). Scalars go through a layer norm. All degrees l > 0 are divided by one
number, their root mean square, in which every degree weighs the same:

    x_lmc -> w_lc x_lmc / sqrt(epsilon + 1/L sum_(l = 1)^L 1/(2l + 1) sum_m 1/C sum_c x_lmc^2)

One number for all keeps the relative size of degrees, which tells how neighbours are arranged; apart from the scalars,
because these are larger as a rule. `DegreeLayerNorm` has a number for each degree, or one for all and the scalars:

    x_lmc -> w_lc x_lmc / sqrt(epsilon + S_l) + b_c [l = 0],    S_l = 1/(2l + 1) sum_m 1/C sum_c x_lmc^2

with the scalars x_00c less their mean, and with the mean of S over all degrees in place of S_l if it is one for all.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn


class SeparableLayerNorm(nn.Module):
    """The normalisation of the module docstring, with a learned scale w for each degree and channel.

    Args:
        epsilon: smooth where features vanish, as they do when the last neighbour leaves: to first order features much
            smaller than its root are multiplied by a constant, epsilon^(-1/2).
    """

    def __init__(self, channels: int, lmax: int, epsilon: float) -> None:
        super().__init__()
        self.lmax, self.epsilon = lmax, epsilon
        self.scalars = nn.LayerNorm(channels, epsilon)
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(channels)) for _ in range(lmax))

    def forward(self, features: Tensor) -> Tensor:
        """(atoms, (lmax + 1)^2, channels) -> the same."""
        scalars, rest = features.split([1, features.shape[1] - 1], dim=1)
        normed: Tensor = self.scalars(scalars)
        if self.lmax == 0:
            return normed
        shares = _shares(self.lmax, features.dtype, features.device)
        factor = torch.rsqrt(rest.square().mean(dim=2) @ shares + self.epsilon)
        weights = torch.stack([weight for l, weight in enumerate(self.weights, 1) for _ in range(2 * l + 1)])
        return torch.cat([normed, rest * factor[:, None, None] * weights], dim=1)


class DegreeLayerNorm(nn.Module):
    """The other normalisations of the module docstring, with learned w (lmax + 1, channels) and b (channels,).

    Args:
        joint: one number for all degrees, with the scalars; False: one for each degree, as in Equiformer.
    """

    def __init__(self, channels: int, lmax: int, epsilon: float, joint: bool) -> None:
        super().__init__()
        self.epsilon, self.joint = epsilon, joint
        self.weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self._sizes = [2 * l + 1 for l in range(lmax + 1)]

    def forward(self, features: Tensor) -> Tensor:
        """(atoms, (lmax + 1)^2, channels) -> the same."""
        scalars, *others = features.split(self._sizes, dim=1)
        blocks = [scalars - scalars.mean(dim=2, keepdim=True), *others]
        squares = [block.square().mean(dim=(1, 2), keepdim=True) for block in blocks]
        if self.joint:
            squares = [torch.stack(squares).mean(dim=0)] * len(blocks)
        normed = [
            block * torch.rsqrt(square + self.epsilon) * weight
            for block, square, weight in zip(blocks, squares, self.weight, strict=True)
        ]
        normed[0] = normed[0] + self.bias
        return torch.cat(normed, dim=1)


@lru_cache
def _shares(lmax: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1 / (L (2 l + 1)) for each component with l > 0."""
    values = [1 / (lmax * (2 * l + 1)) for l in range(1, lmax + 1) for _ in range(2 * l + 1)]
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return torch.tensor(values, dtype=dtype, device=device)
