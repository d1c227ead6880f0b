"""A fast equivariant network on all pairs of atoms of a molecule: narrow messages, wide atoms, vectors beside scalars.

It is an E(n)-equivariant graph network (Satorras et al., arXiv:2102.09844) with several sets of coordinates for an
atom (Irwin et al., "SemlaFlow", arXiv:2406.07266), of which one is where the atom is and the others are vectors as in
PaiNN (Schütt et al., arXiv:2102.03150). With r_ij = x_j - x_i, u_ij = r_ij / (1 + |r_ij|), n atoms, a layer is

    m_ij  = phi_m(z_ij, s_i, s_j, b(|r_ij|), v_i . u_ij, v_j . u_ij),    z_ij <- z_ij + m_ij
    v_i  <- M v_i + sum_j phi_v(m_ij) u_ij / sqrt(n)
    s_i  <- s_i + phi_s(s_i, sum_j g_ij m_ij / sqrt(n), |L v_i|, (L v_i) . (R v_i)) under the time embedding
    x_i  <- x_i + phi_x v_i

| symbol | name | shape |
|---|---|---|
| s | scalars of atoms | (samples, nodes, channels) |
| v | vectors of atoms | (samples, nodes, 3, vectors) |
| x | positions, in a unit that makes them of order 1 | (samples, nodes, 3) |
| z, m | scalars of pairs, messages | (samples, nodes, nodes, pair_channels) |
| g | gates, sigmoid of a linear map of m | (samples, nodes, nodes, GATES) |

The messages and their sums are one operation, `ops/pair_messages/`, which has the equations in full.

There is no cutoff and no cross product: everything is equivariant under rotations, reflections and permutations, and
invariant under translations. Padding neither sends nor receives; atoms that are known stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from atomsml.generative.core.network_inputs import TIMES, directions, pair_distances, time_features
from atomsml.nn.linear import MLP
from atomsml.ops.activation import silu
from atomsml.ops.pair_messages import DISTANCES, PairWeights, distance_features, pair_messages

GATES = 8
BONDS = 5  # none, single, double, triple, aromatic


@dataclass(frozen=True)
class Guess:
    """What the network says: clean positions, and logits of the bonds (samples, nodes, nodes, BONDS), symmetric.

    Bonds are None from a network that does not predict them.
    """

    positions: Tensor
    bonds: Tensor | None


@dataclass(frozen=True)
class Atoms:
    """What is known of the molecules."""

    types: Tensor  # (samples, nodes) which embedding an atom has
    mask: Tensor  # (samples, nodes) bool: atoms, not padding
    known: Tensor  # (samples, nodes) bool: atoms whose positions are given
    pairs: Tensor  # (samples, nodes, nodes, features) what is known of two atoms, as their bond
    conditions: Tensor  # (samples, conditions) of order 1, NaN where not given


class MoleculeNetwork(nn.Module):
    """Predicts where the atoms of a molecule are, and how they are bonded, from noisy places at a time 0 ... 1.

    Args:
        num_pair_features: of `Atoms.pairs`.
        predicts_bonds: without it, they are among what is known.
    """

    def __init__(
        self,
        num_types: int,
        num_conditions: int,
        num_pair_features: int,
        predicts_bonds: bool,
        channels: int,
        pair_channels: int,
        vectors: int,
        hidden: int,
        num_layers: int,
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.embedding = nn.Parameter(torch.randn(num_types, channels))
        self.embedding_known = nn.Parameter(torch.randn(channels))
        self.globals = MLP((2 * TIMES + 2 + 2 * num_conditions, channels, channels))
        self.composition = MLP((channels, channels))
        said = DISTANCES + (BONDS if predicts_bonds else 0) + 1  # of a guess
        self.pairs = MLP((DISTANCES + num_pair_features + said, pair_channels))
        self.layers = nn.ModuleList(MoleculeLayer(channels, pair_channels, vectors, hidden) for _ in range(num_layers))
        self.bonds = MLP((pair_channels + DISTANCES, pair_channels, BONDS)) if predicts_bonds else None

    def forward(self, atoms: Atoms, positions: Tensor, time: Tensor, guess: Guess | None) -> Guess:
        """Clean positions (samples, nodes, 3) and bonds from noisy `positions` at `time` (samples,).

        `guess` is what was said at a noisier time, or None (self-conditioning: Chen et al., arXiv:2208.04202).
        """
        present = atoms.mask.to(positions)
        others = present[:, :, None] * present[:, None] * (1 - torch.eye(positions.shape[1]).to(positions))
        scale = present.sum(dim=1).rsqrt()[:, None, None]  # 1 / sqrt(n)
        free = (present * ~atoms.known)[..., None]
        whole = self._whole(atoms, time, scale[:, 0])
        embedded = (self.embedding[atoms.types] + atoms.known[..., None] * self.embedding_known) * present[..., None]
        s = embedded + silu(whole + self.composition(embedded.sum(dim=1) * scale[:, 0]))[:, None]
        v = positions.new_zeros(*positions.shape, self.vectors)
        z = self.pairs(self._pair_features(positions, guess, atoms.pairs))
        x = positions
        for layer in self.layers:
            s, v, step, z = layer(s, v, x, z, whole, others, scale)
            x = x + step * free
        if self.bonds is None:
            return Guess(x, None)
        bonds = self.bonds(torch.cat([z + z.transpose(1, 2), distance_features(pair_distances(x))], dim=-1))
        return Guess(x, bonds)

    def _pair_features(self, positions: Tensor, guess: Guess | None, known: Tensor) -> Tensor:
        noisy = distance_features(pair_distances(positions))
        if guess is None:
            width: int = self.pairs.weights[0].shape[0]
            return functional.pad(torch.cat([noisy, known], dim=-1), (0, width - DISTANCES - known.shape[-1]))
        bonds = [] if guess.bonds is None else [guess.bonds.softmax(dim=-1)]
        said = [distance_features(pair_distances(guess.positions)), *bonds, torch.ones_like(noisy[..., :1])]
        return torch.cat([noisy, known, *said], dim=-1)

    def _whole(self, atoms: Atoms, time: Tensor, scale: Tensor) -> Tensor:
        """(samples, channels) of what concerns the molecule as a whole: time, size, conditions."""
        given = torch.isfinite(atoms.conditions)
        conditions = torch.where(given, atoms.conditions, 0.0)
        whole: Tensor = self.globals(
            torch.cat([time_features(time), scale, torch.ones_like(scale), conditions, given.to(scale)], dim=1)
        )
        return whole


class MoleculeLayer(nn.Module):
    """One layer of the module docstring; vectors enter it divided by their root mean square."""

    def __init__(self, channels: int, pair_channels: int, vectors: int, hidden: int) -> None:
        super().__init__()
        self.of_receiver = MLP((channels, pair_channels))
        self.of_sender = MLP((channels, pair_channels))
        self.of_geometry = MLP((DISTANCES + 2 * vectors, pair_channels))
        self.message = MLP((pair_channels, pair_channels))
        self.gate = MLP((pair_channels, GATES))
        self.vector = MLP((pair_channels, vectors))
        self.mix = MLP((vectors, vectors))
        self.left = MLP((vectors, vectors))
        self.right = MLP((vectors, vectors))
        self.modulation = MLP((channels, 2 * channels))
        self.update = MLP((channels + pair_channels + 2 * vectors, hidden, channels + vectors))
        self.move = MLP((vectors, 1))

    def forward(
        self, s: Tensor, v: Tensor, x: Tensor, z: Tensor, whole: Tensor, others: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """New scalars, vectors, steps of the positions, and pairs.

        `others` (samples, nodes, nodes) is 1 between different atoms, `scale` (samples, 1, 1) is 1 / sqrt(n).
        """
        channels = s.shape[2]
        normed = functional.layer_norm(s, (channels,))
        logarithms, units = directions(x)
        z, gathered, moved = pair_messages(
            z,
            self.of_receiver(normed),
            self.of_sender(normed),
            logarithms,
            units,
            v,
            others,
            PairWeights(*(mlp.matrices()[0] for mlp in (self.of_geometry, self.message, self.gate, self.vector))),
        )
        gathered, v = gathered * scale, self.mix(v) + moved * scale[..., None]
        v = v * torch.rsqrt(v.square().mean(dim=(2, 3), keepdim=True) + 0.1)
        left, right = self.left(v), self.right(v)
        invariants = torch.cat([torch.sqrt(left.square().sum(dim=2) + 1e-6), (left * right).sum(dim=2)], dim=-1)
        shift, stretch = self.modulation(whole)[:, None].chunk(2, dim=-1)
        update = self.update(torch.cat([normed * (1 + 0.3 * stretch) + shift, gathered, invariants], dim=-1))
        v = v * torch.sigmoid(update[..., None, channels:])
        return s + update[..., :channels], v, 0.3 * self.move(v).squeeze(-1), z
