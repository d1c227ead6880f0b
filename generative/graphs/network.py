"""A network on all pairs of atoms of a graph: what is decided already, and what each undecided bond may be.

With states s_i of atoms and z_ij = z_ji of pairs, n atoms, a layer is

    z_ij <- z_ij + m_ij,   m_ij = phi_m(z_ij, a s_i + a s_j, sum_k (L z)_ik (R z)_kj + (R z)_ik (L z)_kj)
    s_i  <- s_i + phi_s(s_i, sum_j g_ij m_ij / sqrt(n))

The products over k combine pairs that share an atom, as those of Maron et al. do (arXiv:1905.11136): rings of any size
can be told apart, which messages between atoms cannot. Everything is equivariant under permutations of the atoms.

| symbol | name | shape |
|---|---|---|
| s | states of atoms | (samples, nodes, channels) |
| z, m | states of pairs, messages | (samples, pairs, pair_channels) |
| g | gates, sigmoid of a linear map of m | (samples, pairs, GATES) |

What a network could not easily find itself it is told: of a pair how many decided bonds lie between its atoms, which is
the size of the ring that a bond would close, and the bounds of its order; of an atom its open valence and how many
neighbours are lacking; of the molecule how many pieces it is in, and how many rings are still to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from atomsml.generative.graphs import pairs
from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.valences import FARTHEST, ORDERS, Bounds
from atomsml.nn.linear import MLP
from atomsml.ops.activation import silu

GATES = 8
CHARGES = 3  # formal charges from -3 to 3 are told apart
MOST = 8  # valences, hydrogens, neighbours, pieces, rings: more are not told apart
OF_PAIR = 4 * (ORDERS + 1) + FARTHEST + 2
OF_ATOM = (2 * CHARGES + 1) + 5 * (MOST + 1)
OF_WHOLE = 3 * (MOST + 1) + 1


@dataclass(frozen=True)
class Atoms:
    """The heavy atoms of which graphs are made, (samples, nodes) each; zero at padding."""

    numbers: Tensor
    charges: Tensor
    hydrogens: Tensor
    valences: Tensor  # of bonds to other heavy atoms
    neighbors: Tensor  # how many there are

    @staticmethod
    def of(graphs: MolecularGraphs) -> Atoms:
        bonds = graphs.bonds
        return Atoms(graphs.numbers, graphs.charges, graphs.hydrogens, bonds.sum(dim=2), (bonds > 0).sum(dim=2))

    @property
    def mask(self) -> Tensor:
        return self.numbers > 0

    def select(self, rows: Tensor) -> Atoms:
        """Some of the samples."""
        columns = self.numbers, self.charges, self.hydrogens, self.valences, self.neighbors
        return Atoms(*(column[rows] for column in columns))


class GraphNetwork(nn.Module):
    """Logits of the orders of all bonds (samples, pairs, ORDERS); pairs as in pairs.py."""

    elements: Tensor

    def __init__(
        self,
        elements: Sequence[int],
        channels: int,
        pair_channels: int,
        triangle_channels: int,
        hidden: int,
        num_layers: int,
    ) -> None:
        super().__init__()
        self.register_buffer("elements", torch.tensor(list(elements)), persistent=False)
        self.atoms = MLP((len(elements) + OF_ATOM, channels))
        self.whole = MLP((OF_WHOLE + channels, channels, channels))
        self.pairs = MLP((OF_PAIR, pair_channels))
        self.layers = nn.ModuleList(
            GraphLayer(channels, pair_channels, triangle_channels, hidden) for _ in range(num_layers)
        )
        self.orders = MLP((pair_channels + channels, pair_channels, ORDERS))
        self.ends = MLP((channels, channels))

    def forward(self, atoms: Atoms, bonds: Tensor, known: Bounds) -> Tensor:
        """Of graphs whose pairs are partly decided; `known` are the bounds of `bonds` (samples, nodes, nodes)."""
        mask = atoms.mask
        dtype = self.pairs.weights[0].dtype
        present = mask[..., None].to(dtype)
        size = mask.sum(dim=1).clamp(min=1).to(dtype)
        scale = size.rsqrt()[:, None, None]
        i, j = pairs.pair_atoms(mask.shape[1], mask.device)
        others = (mask[:, i] & mask[:, j])[..., None].to(dtype)
        species = (atoms.numbers[..., None] == self.elements).to(dtype)
        features = [species, _one_hot(atoms.charges + CHARGES, 2 * CHARGES, dtype)]
        features += [
            _one_hot(x, MOST, dtype)
            for x in (atoms.hydrogens, atoms.valences, atoms.neighbors, known.open, known.places)
        ]
        s = self.atoms(torch.cat(features, dim=-1)) * present
        rings = known.places.sum(dim=1) // 2 - (known.components - 1)
        whole = [_one_hot(x, MOST, dtype) for x in (known.components, rings, mask.sum(dim=1))]
        s = (
            s
            + self.whole(torch.cat([*whole, size[:, None].log(), s.sum(dim=1) * scale[:, 0]], dim=-1))[:, None]
            * present
        )
        z = self.pairs(_pair_features(bonds, known, dtype))
        for layer in self.layers:
            s, z = layer(s, z, i, j, others, scale)
        ends = self.ends(functional.layer_norm(s, s.shape[-1:]))
        logits: Tensor = self.orders(torch.cat([functional.layer_norm(z, z.shape[-1:]), _ends(ends, i, j)], dim=-1))
        return logits


class GraphLayer(nn.Module):
    """One layer of the module docstring."""

    def __init__(self, channels: int, pair_channels: int, triangle_channels: int, hidden: int) -> None:
        super().__init__()
        self.of_atom = MLP((channels, pair_channels))
        self.of_pair = MLP((pair_channels, pair_channels))
        self.sides = MLP((pair_channels, 2 * triangle_channels))
        self.of_triangles = MLP((triangle_channels, pair_channels))
        self.message = MLP((pair_channels, pair_channels))
        self.gate = MLP((pair_channels, GATES))
        self.update = MLP((channels + pair_channels, hidden, channels))

    def forward(
        self, s: Tensor, z: Tensor, i: Tensor, j: Tensor, others: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New states of atoms and of pairs; `others` (samples, pairs, 1) is 1 at pairs, `scale` is 1 / sqrt(n)."""
        normed, of_pairs = functional.layer_norm(s, s.shape[-1:]), functional.layer_norm(z, z.shape[-1:])
        ends = self.of_atom(normed)
        left, right = pairs.to_dense(self.sides(of_pairs) * others).permute(3, 0, 1, 2).chunk(2)
        joined = left @ right
        triangles = pairs.to_list((joined + joined.mT).permute(1, 2, 3, 0)) * scale
        before = self.of_pair(of_pairs) + _ends(ends, i, j) + self.of_triangles(triangles)
        m = silu(self.message(silu(0.5 * before))) * others
        gates = torch.sigmoid(self.gate(m)).unsqueeze(-1)
        gated = (gates * m.unflatten(-1, (GATES, -1))).flatten(-2)
        gathered = pairs.to_dense(gated).sum(dim=2) * scale
        return s + self.update(torch.cat([normed, gathered], dim=-1)), z + m


def _ends(atoms: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """(samples, pairs, channels): the sums of the two atoms of every pair."""
    return atoms.index_select(1, i) + atoms.index_select(1, j)


def _pair_features(bonds: Tensor, known: Bounds, dtype: torch.dtype) -> Tensor:
    """(samples, pairs, OF_PAIR)."""
    far = torch.where(known.distance < 0, FARTHEST + 1, known.distance)
    columns = [(bonds, ORDERS), (known.low, ORDERS), (known.high, ORDERS), (known.least, ORDERS), (far, FARTHEST + 1)]
    return torch.cat([_one_hot(pairs.to_list(values), most, dtype) for values, most in columns], dim=-1)


def _one_hot(values: Tensor, most: int, dtype: torch.dtype) -> Tensor:
    """(..., most + 1); larger values count as `most`."""
    return functional.one_hot(values.clamp(0, most), most + 1).to(dtype)
