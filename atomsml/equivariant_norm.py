"""Separable layer normalisation of equivariant features (EquiformerV2: Liao et al., arXiv:2306.12059, section 4.3).

Scalars go through a layer norm. All degrees l > 0 are divided by one number, their root mean square, in which every
degree weighs the same:

    x_lmc -> w_lc x_lmc / sqrt(epsilon + 1/L sum_(l = 1)^L 1/(2l + 1) sum_m 1/C sum_c x_lmc^2)

One number for all keeps the relative size of degrees, which tells how neighbours are arranged; apart from the scalars,
because these are larger as a rule.
"""

import torch
from torch import Tensor, nn

from atomsml.layers import irrep_blocks


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
        scalars, *rest = irrep_blocks(features, self.lmax)
        out = [self.scalars(scalars)]
        if rest:
            mean_square = torch.stack([block.square().mean(dim=(1, 2)) for block in rest]).mean(dim=0)
            factor = torch.rsqrt(mean_square + self.epsilon)[:, None, None]
            out += [block * (factor * weight) for block, weight in zip(rest, self.weights, strict=True)]
        return torch.cat(out, dim=1)
