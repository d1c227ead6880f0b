"""Our denoiser of equivariant diffusion: an EGNN on all pairs of atoms, after Hoogeboom et al., arXiv:2203.17003.

    [x_out, h_out] = EGNN(x, [h, t, c]),    eps_x = x_out - x minus its mean over the atoms,    eps_h = h_out

The layers are those of `atomsml.nn.egnn`; what an edge knows, besides the distance of its displaced ends, is their
squared distance at the start. `paper.py` is the network as published. Lengths inside are in units of 3 Angstrom, which
makes those in molecules of order 1.
Padding is no part of the graph: it makes neither atoms nor edges.

| symbol | name | shape |
|---|---|---|
| x | positions | (samples, nodes, 3) |
| h | features | (samples, nodes, features) |
| t | t | (samples,) from 0 (data) to 1 (noise) |
| c | conditions | (samples, conditions) of order 1; NaN is the unknown one |
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atomsml.generative.core.spaces.euclidean import CenteredPositions
from atomsml.generative.molecules.edm.config import EDMConfig
from atomsml.nn.egnn import CoordinateUpdate, EGNNLayers
from atomsml.nn.linear import MLP
from atomsml.ops.convolution import Edges

LENGTH = 3.0  # Angstrom: the unit inside the network


@dataclass(frozen=True)
class FullGraphs:
    """The atoms of a padded batch one after the other, and an edge from every atom to every other of its molecule."""

    mask: Tensor  # (samples, nodes)
    atoms: Tensor  # (atoms,): their places in the flattened batch
    edges: Edges

    @staticmethod
    def from_mask(mask: Tensor) -> FullGraphs:
        row = (mask.flatten().cumsum(0) - 1).reshape(mask.shape)  # (samples, nodes): place of an atom among all atoms
        apart = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        sample, receiver, sender = (mask[:, :, None] & mask[:, None, :] & apart).nonzero(as_tuple=True)
        index = torch.stack([row[sample, sender], row[sample, receiver]])
        return FullGraphs(mask, mask.flatten().nonzero().squeeze(1), Edges.from_index(index, int(mask.sum())))

    def take(self, dense: Tensor) -> Tensor:
        """(samples, nodes, n) -> (atoms, n)."""
        return dense.flatten(0, 1)[self.atoms]

    def pad(self, values: Tensor) -> Tensor:
        """(atoms, n) -> (samples, nodes, n), zero at padding."""
        dense = values.new_zeros(self.mask.numel(), values.shape[1])
        return dense.index_copy(0, self.atoms, values).reshape(*self.mask.shape, -1)


class EDMNetwork(nn.Module):
    """The equation of the module docstring.

    The perceptrons have no biases: a constant input, and for every condition whether it is known, stand for them.
    """

    def __init__(self, config: EDMConfig) -> None:
        super().__init__()
        self.embedding = MLP((config.num_features + 2 + 2 * len(config.conditions), config.channels))
        self.layers = EGNNLayers(
            config.channels,
            1,
            config.num_layers,
            config.avg_num_neighbors,
            config.coordinate_range / LENGTH,
            moves_last=True,
        )
        self.readout = MLP((config.channels, config.num_features))
        # training starts from almost no noise predicted: atoms that are moved far by many layers diverge
        moves = [module.phi for module in self.layers.modules() if isinstance(module, CoordinateUpdate)]
        for last in (*moves, self.readout):
            last.weights[-1].data.mul_(1e-3)

    def forward(
        self, positions: Tensor, features: Tensor, t: Tensor, conditions: Tensor, graphs: FullGraphs
    ) -> tuple[Tensor, Tensor]:
        """The noise in positions and features, of their shapes, zero at padding."""
        known = conditions.isfinite()
        shared = torch.cat(
            [t[:, None], torch.ones_like(t)[:, None], conditions.where(known, 0), known.to(conditions)], dim=1
        )
        nodes = torch.cat([features, shared[:, None].expand(-1, features.shape[1], -1)], dim=2)
        at, edges = graphs.take(positions), graphs.edges
        vectors = (at[edges.sender] - at[edges.receiver]) / LENGTH
        squared = vectors.square().sum(dim=1, keepdim=True)
        ones = vectors.new_ones(len(vectors))
        hidden, moved = self.layers(self.embedding(graphs.take(nodes)), vectors, squared, ones, edges)
        return CenteredPositions().project(graphs.pad(LENGTH * moved), graphs.mask), graphs.pad(self.readout(hidden))
