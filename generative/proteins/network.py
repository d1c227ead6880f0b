"""A network that sees noisy frames of residues and predicts the clean ones (FrameDiff: Yim et al., arXiv:2302.02277).

With features s_i of residues, z_ij of pairs and frames (R_i, x_i), n residues, a block is

    z_ij <- z_ij + m_ij,   m_ij = phi_m(z_ij, s_i, s_j, |r_ij|, R_i^T u_ij, R_j^T u_ji),   r_ij = x_j - x_i
    s_i  <- s_i + linear(sum_j g_ij m_ij / sqrt(n),  R_i^T sum_j phi_v(m_ij) u_ij / sqrt(n))
    s_i  <- s_i + IPA(s, z, R, x)                   invariant point attention (invariant_point_attention.py)
    s_i  <- s_i + attention along the chain, then s_i <- s_i + phi_s(s_i)
    R_i  <- R_i rotation(1, a, b, c),   x_i <- x_i + R_i u,   (a, b, c, u) = linear(s_i)

The messages m are those of `ops/pair_messages/`, to which a frame is three vectors, the columns of R_i: a pair knows
where each of its residues is, seen from the other. Everything that a residue moves by is seen from its own frame:
frames are equivariant under rotations and translations, and a mirror image is another chain, because frames are
right-handed.

Of the place of a residue in the chain the network knows j - i of pairs and whether it is an end: samples are windows of
chains. Memory grows with samples x residues^2 x (pair_channels + num_heads), and nothing larger.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from atomsml.codegen.threads import by_samples
from atomsml.generative.core.network_inputs import TIMES, directions, pair_distances, time_features
from atomsml.generative.core.rotations import quaternion_multiply, quaternion_to_matrix
from atomsml.generative.proteins.invariant_point_attention import UNSEEN, InvariantPointAttention
from atomsml.nn.linear import MLP
from atomsml.ops.pair_messages import DISTANCES, PairWeights, distance_features, pair_messages

UNIT = 10.0  # Angstrom, of positions inside the network, which are then of order 1
FINE = 4.0  # positions of messages are in UNIT / FINE: their Gaussians are 0.7 A wide at neighbours, and end at 30 A
GATES = 8
FARTHEST = 32  # residues along the chain that are farther apart are not told apart
WORTH_A_THREAD = 8_000  # pairs: for fewer, what does not depend on their number takes most of the time
STEP = 0.2  # of the numbers by which a block moves frames


@dataclass(frozen=True)
class FrameNetworkConfig:
    """Widths of a FrameNetwork."""

    channels: int = 128  # a multiple of num_heads
    pair_channels: int = 32  # a multiple of the number of gates, 8
    num_heads: int = 8
    head_channels: int = 16
    query_points: int = 4
    value_points: int = 8
    hidden: int = 256
    num_layers: int = 4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value <= 4096:
                raise ValueError(f"{name} must lie in 1 ... 4096, got {reprlib.repr(value)}")
        if self.pair_channels % GATES:
            raise ValueError(
                f"pair_channels must be a multiple of {GATES}, the number of gates; got {self.pair_channels}"
            )
        if self.channels % self.num_heads:
            raise ValueError(f"channels must be a multiple of num_heads, {self.num_heads}; got {self.channels}")


class FrameNetwork(nn.Module):
    """Predicts the clean frames of residues from noisy ones at a time 0 ... 1."""

    def __init__(self, config: FrameNetworkConfig) -> None:
        super().__init__()
        channels, pair_channels = config.channels, config.pair_channels
        self.residues = MLP((2 * TIMES + 5, channels, channels))
        self.relative = RelativeIndex(pair_channels)
        self.last = MLP((DISTANCES, pair_channels))
        self.embedding_last = nn.Parameter(torch.randn(pair_channels))
        self.blocks = nn.ModuleList(FrameBlock(config) for _ in range(config.num_layers))

    def forward(
        self, quaternions: Tensor, positions: Tensor, t: Tensor, mask: Tensor, known: Tensor, last: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Clean unit quaternions (samples, residues, 4) and places of CA (samples, residues, 3); zero at padding.

        Args:
            quaternions: (samples, residues, 4) noisy orientations, of length 1.
            positions: (samples, residues, 3) noisy places of CA, in UNIT.
            t: (samples,) 0 is data, 1 is noise.
            mask: (samples, residues) bool: residues, not padding, which comes last.
            known: (samples, residues) bool: residues that are given clean, and come back as they are.
            last: (samples, residues, 3) the places of CA that were predicted at a noisier time, or None
                (self-conditioning: Chen et al., arXiv:2208.04202).
        """
        given = [x for x in (quaternions, positions, t, mask, known, last) if x is not None]
        if torch.is_grad_enabled() or positions.device.type != "cpu":
            return self._predict(*given)
        turned, moved = by_samples(self._predict, given, mask.numel() * mask.shape[1] // WORTH_A_THREAD)
        return turned, moved

    def _predict(
        self, quaternions: Tensor, positions: Tensor, t: Tensor, mask: Tensor, known: Tensor, last: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        present = mask[..., None].to(positions)
        scale = present.sum(dim=1, keepdim=True).clamp_min(1).rsqrt()  # 1 / sqrt(n)
        centre = (positions * present).sum(dim=1, keepdim=True) * scale.square()
        frames = Frames(
            quaternion_to_matrix(quaternions),
            (positions - centre) * present,
            mask,
            (mask & ~known).to(positions)[..., None],
        )
        others = present * present.mT * (1 - torch.eye(mask.shape[1]).to(positions))
        s = self.residues(self._residue_features(t, mask, known, positions.dtype))
        z = self._pair_features(mask.shape, last)
        turned, moved = quaternions, torch.zeros_like(positions)
        for block in self.blocks:
            s, z, turn, move = block(s, z, frames, others, scale)
            turned = quaternion_multiply(turned, turn)
            moved = moved + move
            frames = frames.moved(turn, move)
        return turned * present, (positions + moved) * present

    def _residue_features(self, t: Tensor, mask: Tensor, known: Tensor, dtype: torch.dtype) -> Tensor:
        """(samples, residues, 2 TIMES + 5): time, whether known, the first and the last residue, length, 1."""
        after = functional.pad(mask[:, 1:], (0, 1))
        first = torch.zeros_like(mask)
        first[:, 0] = True
        sizes = mask.sum(dim=1, keepdim=True).clamp_min(1).to(dtype)
        length = torch.log(sizes / 64).expand(mask.shape)
        columns = [known, first, mask & ~after, length, torch.ones_like(mask)]
        times = time_features(t.to(dtype)[:, None] * ~known)
        return torch.cat([times, torch.stack([column.to(dtype) for column in columns], dim=-1)], dim=-1)

    def _pair_features(self, shape: torch.Size, last: Tensor | None) -> Tensor:
        """(samples, residues, residues, pair_channels): how far apart along the chain, and in `last`."""
        z = self.relative(shape[1])
        if last is None:
            return z.expand(shape[0], -1, -1, -1)
        # Gaussians in the place of a histogram: what lies at the border of two bins does not jump
        return self.last(distance_features(FINE * pair_distances(last))) + (z + self.embedding_last)


@dataclass(frozen=True)
class Frames:
    """Frames while a network moves them."""

    rotations: Tensor  # (samples, residues, 3, 3)
    positions: Tensor  # (samples, residues, 3) about the centre of the noisy ones, in UNIT
    mask: Tensor  # (samples, residues) bool: residues, not padding
    free: Tensor  # (samples, residues, 1) 1 where a frame may move, else 0

    def moved(self, turn: Tensor, move: Tensor) -> Frames:
        """Turned about themselves by quaternions, and moved."""
        return replace(self, rotations=self.rotations @ quaternion_to_matrix(turn), positions=self.positions + move)


class FrameBlock(nn.Module):
    """One block of the module docstring."""

    def __init__(self, config: FrameNetworkConfig) -> None:
        super().__init__()
        channels, pair_channels = config.channels, config.pair_channels
        self.of_receiver = MLP((channels, pair_channels))
        self.of_sender = MLP((channels, pair_channels))
        self.of_geometry = MLP((DISTANCES + 6, pair_channels))
        self.message = MLP((pair_channels, pair_channels))
        self.gate = MLP((pair_channels, GATES))
        self.vector = MLP((pair_channels, 3))
        self.gather = MLP((pair_channels + 9, channels))
        self.points = InvariantPointAttention(
            channels,
            pair_channels,
            config.num_heads,
            config.head_channels,
            config.query_points,
            config.value_points,
        )
        self.chain = ChainAttention(channels, config.num_heads)
        self.transition = MLP((channels, config.hidden, channels))
        self.frame = MLP((channels, 6))
        nn.init.zeros_(self.frame.weights[0])  # at the start frames stay where they are: a fair guess of little noise

    def forward(
        self, s: Tensor, z: Tensor, frames: Frames, others: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """New features of residues and pairs, and the quaternions and vectors by which frames move.

        `others` (samples, residues, residues) is 1 between different residues, `scale` (samples, 1, 1) is 1 / sqrt(n).
        """
        z, gathered = self._messages(_normed(s), z, frames, others)
        s = s + self.gather(gathered * scale)
        s = s + self.points(_normed(s), z, frames.rotations, frames.positions, frames.mask)
        s = s + self.chain(_normed(s), frames.mask)
        s = s + self.transition(_normed(s))
        turn, move = (STEP * frames.free * self.frame(_normed(s))).split(3, dim=-1)
        turn = torch.cat([torch.ones_like(turn[..., :1]), turn], dim=-1)
        turn = turn / torch.linalg.vector_norm(turn, dim=-1, keepdim=True)
        return s, z, turn, (frames.rotations @ move[..., None]).squeeze(-1)

    def _messages(self, normed: Tensor, z: Tensor, frames: Frames, others: Tensor) -> tuple[Tensor, Tensor]:
        """New features of pairs, and sums of messages (samples, residues, pair_channels + 9)."""
        logarithms, units = directions(FINE * frames.positions)
        z, gathered, vectors = pair_messages(
            z,
            self.of_receiver(normed),
            self.of_sender(normed),
            logarithms,
            units,
            frames.rotations,
            others,
            PairWeights(*(mlp.matrices()[0] for mlp in (self.of_geometry, self.message, self.gate, self.vector))),
        )
        seen = frames.rotations.mT @ vectors
        return z, torch.cat([gathered, seen.flatten(2)], dim=-1)


class ChainAttention(nn.Module):
    """Self-attention (Vaswani et al., arXiv:1706.03762) that knows how far apart residues are along the chain."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.heads = MLP((channels, 3 * channels))
        self.relative = RelativeIndex(num_heads)
        self.out = MLP((channels, channels))

    def forward(self, s: Tensor, mask: Tensor) -> Tensor:
        """(samples, residues, channels)"""
        q, k, v = self.heads(s).unflatten(-1, (self.num_heads, -1)).transpose(1, 2).chunk(3, dim=-1)
        hidden = torch.where(mask, 0.0, UNSEEN).to(s)[:, None, None]
        logits = q @ k.mT / math.sqrt(q.shape[-1]) + self.relative(s.shape[1]).permute(2, 0, 1) + hidden
        attended: Tensor = self.out((torch.softmax(logits, dim=-1) @ v).transpose(1, 2).flatten(2))
        return attended


class RelativeIndex(nn.Module):
    """A learned row for each j - i, up to FARTHEST in both directions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(2 * FARTHEST + 1, channels))

    def forward(self, residues: int) -> Tensor:
        """(residues, residues, channels)"""
        index = torch.arange(residues, device=self.embedding.device)
        apart = (index - index[:, None]).clamp(-FARTHEST, FARTHEST) + FARTHEST
        return self.embedding[apart]


def _normed(s: Tensor) -> Tensor:
    return functional.layer_norm(s, s.shape[-1:])
