"""The denoiser of equivariant diffusion as its authors wrote it (Hoogeboom et al., arXiv:2203.17003).

    [x_out, h_out] = EGNN(x, [h, t, c]),    eps_x = x_out - x minus its mean over the atoms,    eps_h = h_out

Every block sends messages (`MessagePassing`, with attention), then moves the atoms by a perceptron of its own, which
reads both atoms and both distances, today's and that of the start:

    x_i <- x_i + 1/C sum_j (x_i - x_j) / (|x_i - x_j| + 1) range tanh(phi_x(h_i, h_j, d_ij^2, d0_ij^2))

Symbols are those of `network.py`; lengths are in Angstrom. `atomsml convert` reads the authors' weights for it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomsml.generative.core.spaces.euclidean import CenteredPositions
from atomsml.generative.molecules.edm.config import EDMConfig
from atomsml.generative.molecules.edm.network import FullGraphs
from atomsml.nn.egnn_paper import MessagePassing, of_ends, small_readout
from atomsml.nn.linear import MatmulLinear
from atomsml.ops.convolution import Edges


class PaperBlock(nn.Module):
    """Rounds of messages, and a move of the atoms."""

    def __init__(self, config: EDMConfig) -> None:
        super().__init__()
        channels = config.channels
        self.coordinate_range, self.avg_num_neighbors = config.coordinate_range, config.avg_num_neighbors
        self.messages = nn.ModuleList(
            MessagePassing(channels, 2, True, config.avg_num_neighbors, MatmulLinear)
            for _ in range(config.num_sublayers)
        )
        self.phi_x = nn.Sequential(
            *(MatmulLinear(2 * channels + 2, channels), nn.SiLU(), MatmulLinear(channels, channels), nn.SiLU()),
            small_readout(channels),
        )

    def forward(self, features: Tensor, vectors: Tensor, at_start: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """The new features, and the steps (atoms, 3); `at_start` (edges, 1): squared distances in A^2."""
        squared = vectors.square().sum(dim=1, keepdim=True)
        attributes = torch.cat([squared, at_start], dim=1)
        for messages in self.messages:
            features, _ = messages(features, attributes, edges)
        strengths = torch.tanh(of_ends(self.phi_x, features, attributes, edges))
        directions = -vectors / (torch.sqrt(squared + 1e-8) + 1)
        moves = directions * (self.coordinate_range * strengths)
        steps = vectors.new_zeros(len(features), 3).index_add(0, edges.receiver, moves)
        return features, steps / self.avg_num_neighbors


class PaperNetwork(nn.Module):
    """The equation of the module docstring."""

    def __init__(self, config: EDMConfig) -> None:
        super().__init__()
        self.embedding = nn.Linear(config.num_features + 1 + len(config.conditions), config.channels)
        self.blocks = nn.ModuleList(PaperBlock(config) for _ in range(config.num_layers))
        self.readout = nn.Linear(config.channels, config.num_features)

    def forward(
        self, positions: Tensor, features: Tensor, t: Tensor, conditions: Tensor, graphs: FullGraphs
    ) -> tuple[Tensor, Tensor]:
        """The noise in positions and features, of their shapes, zero at padding.

        Raises:
            ValueError: a condition is unknown.
        """
        if not conditions.isfinite().all():
            raise ValueError(
                "the published network of EDM knows no unknown condition: ask for a value of each, without guidance, "
                "and train on molecules that have them all"
            )
        shared = torch.cat([t[:, None], conditions], dim=1)
        nodes = torch.cat([features, shared[:, None].expand(-1, features.shape[1], -1)], dim=2)
        at, edges = graphs.take(positions), graphs.edges
        vectors = at[edges.sender] - at[edges.receiver]
        at_start = vectors.square().sum(dim=1, keepdim=True)
        hidden, moved = self.embedding(graphs.take(nodes)), torch.zeros_like(at)
        for block in self.blocks:
            now = vectors + moved[edges.sender] - moved[edges.receiver]
            hidden, step = block(hidden, now, at_start, edges)
            moved = moved + step
        return CenteredPositions().project(graphs.pad(moved), graphs.mask), graphs.pad(self.readout(hidden))
