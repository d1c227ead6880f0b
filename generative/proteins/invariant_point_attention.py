"""Invariant point attention (Jumper et al., Nature 596, 583, 2021, supplement, algorithm 22).

Residue i has a frame T_i = (R_i, x_i), T_i p = R_i p + x_i. From its features s_i come, for each head h, a query q_i, a
key k_i and a value v_i, and points in its own frame: queries q_i^p, keys k_i^p and values v_i^p. With features z_ij of
pairs, c channels and P query points of a head,

    a_ij = softmax_j((q_i . k_j / sqrt(c) + b_h . z_ij - g_h w / 2 sum_p |T_i q_i^p - T_j k_j^p|^2) / sqrt(3))
    s_i' = linear(sum_j a_ij z_ij,  sum_j a_ij v_j,  o_i^p,  |o_i^p|),     o_i^p = T_i^-1 (sum_j a_ij T_j v_j^p)

where w = sqrt(2 / (9 P)) makes both kinds of logits equally wide at the start, and g_h is learned. Distances between
points are the same in every common frame, and o_i^p is seen from residue i: the output is invariant.

The squared distance is |Q|^2 + |K|^2 - 2 Q . K: each head has one product of c + 3 P + 2 columns for both kinds of
logits, and nothing is ever as large as pairs times points. It costs memory for num_heads numbers a pair, and time in
proportion to samples x residues^2. Positions should lie about the origin, in which case rounding is that of the
largest distance squared.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from atomsml.nn.linear import MLP

UNSEEN = -1e9  # a logit that softmax makes zero; finite, so that a sample without residues gives no NaN
SMALLEST = 1e-8  # added to squares of lengths, whose roots then have a gradient at zero


class InvariantPointAttention(nn.Module):
    """The equations of the module docstring, without biases.

    Args:
        channels, pair_channels: widths of s and z.
        head_channels: c, of queries, keys and values of a head.
        query_points, value_points: of a head.
    """

    def __init__(
        self,
        channels: int,
        pair_channels: int,
        num_heads: int,
        head_channels: int,
        query_points: int,
        value_points: int,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_channels = num_heads, head_channels
        self.query_points, self.value_points = query_points, value_points
        self.scalars = MLP((channels, num_heads * 3 * head_channels))
        self.points = MLP((channels, num_heads * (2 * query_points + value_points) * 3))
        self.bias = MLP((pair_channels, num_heads))
        self.sharpness = nn.Parameter(torch.full((num_heads,), math.log(math.e - 1)))  # its softplus, g, starts as 1
        self.out = MLP((num_heads * (pair_channels + head_channels + 4 * value_points), channels))

    def forward(self, s: Tensor, z: Tensor, rotations: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """(samples, residues, channels) from features of residues and pairs, and frames.

        Args:
            s: (samples, residues, channels).
            z: (samples, residues, residues, pair_channels), of receiver i and sender j.
            rotations: (samples, residues, 3, 3), acting on columns.
            positions: (samples, residues, 3).
            mask: (samples, residues) bool; padding is not attended to, and its own output means nothing.
        """
        heads = len(s), self.num_heads
        queries, keys, values = self._heads(s, rotations, positions, mask)
        by_pairs = self.bias.matrices()[0].T / math.sqrt(3) @ z.flatten(1, 2).mT  # (samples, heads, pairs)
        logits = torch.baddbmm(by_pairs.view(-1, *z.shape[1:3]), queries.flatten(0, 1), keys.flatten(0, 1).mT)
        weights = torch.softmax(logits, dim=-1).unflatten(0, heads)
        of_pairs = weights.transpose(1, 2) @ z  # (samples, residues, heads, pair_channels)
        found = (weights @ values).transpose(1, 2)  # (samples, residues, heads, c + 3 points)
        scalars, points = found[..., : self.head_channels], found[..., self.head_channels :]
        points = points.unflatten(-1, (3, -1)).transpose(2, 3).flatten(3)  # (samples, residues, 3, heads x points)
        seen = rotations.mT @ (points - positions[..., None])
        lengths = torch.sqrt(seen.square().sum(dim=2) + SMALLEST)
        whole = torch.cat([of_pairs.flatten(2), scalars.flatten(2), seen.flatten(2), lengths], dim=-1)
        invariant: Tensor = self.out(whole)
        return invariant

    def _heads(self, s: Tensor, rotations: Tensor, positions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, whose products are logits, and values: (samples, heads, residues, columns) each."""
        heads, c = self.num_heads, self.head_channels
        q, k, v = self.scalars(s).unflatten(-1, (heads, 3 * c)).transpose(1, 2).split(c, dim=-1)
        local = self.points(s).unflatten(-1, (3, -1))  # coordinates first: one product turns all points of a residue
        points = (rotations @ local + positions[..., None]).unflatten(3, (heads, -1)).permute(0, 3, 1, 2, 4)
        counts = [self.query_points, self.query_points, self.value_points]
        q_points, k_points, v_points = (part.flatten(3) for part in points.split(counts, dim=4))
        strength = functional.softplus(self.sharpness) * math.sqrt(2 / (9 * self.query_points) / 3)
        root = strength.sqrt()[:, None, None]
        q_points, k_points = root * q_points, root * k_points
        q_squared, k_squared = (-0.5 * x.square().sum(dim=-1, keepdim=True) for x in (q_points, k_points))
        hidden = torch.where(mask, 0.0, UNSEEN).to(s)[:, None, :, None]
        one = torch.ones_like(q_squared)
        queries = torch.cat([q / math.sqrt(3 * c), q_points, q_squared, one], dim=-1)
        keys = torch.cat([k, k_points, one, k_squared + hidden], dim=-1)
        return queries, keys, torch.cat([v, v_points], dim=-1)
