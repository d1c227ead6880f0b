"""E(n)-equivariant graph network: invariant messages that also move the atoms, after Satorras et al., arXiv:2102.09844.

    m_ij = phi_e(h_i, h_j, |x_i - x_j|^2, a_ij)
    x_i <- x_i + C sum_j e_ij (x_i - x_j) / (|x_i - x_j| + 1) phi_x(m_ij)
    h_i <- h_i + phi_h(h_i, C sum_j e_ij m_ij)

The layers of the paper itself are those of `egnn_paper`. Its optional gates of messages e_ij = sigmoid(phi_inf(m_ij))
are always there here, and in the step of the atoms as well, where the paper has none. The normalised difference and
the bounded phi_x = range * tanh(...) are those of equivariant diffusion (Hoogeboom et al., arXiv:2203.17003): they keep
deep networks stable. Atoms move relative to where they were, by displacements: of the positions a layer needs the
vectors of the edges only, so that periodic systems are no special case.

| symbol | name | shape |
|---|---|---|
| h | features | (atoms, channels) |
| x_j - x_i | vectors | (edges, 3): from receiver i to sender j, in a unit of length that makes them of order 1 |
| a | attributes | (edges, num_attributes): what else is known of an edge |
| | weights | (edges,): e_ij is multiplied by them; an envelope lets edges end smoothly |
| C | 1 / avg_num_neighbors | |

Everything is smooth in the vectors, even where displaced atoms meet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from atomsml.nn.linear import MLP
from atomsml.ops.activation import silu
from atomsml.ops.convolution import Edges


class EGNNLayers(nn.Module):
    """Layers of messages, each of which moves the atoms.

    Args:
        num_attributes: how many numbers describe an edge, besides the distance of its displaced ends.
        coordinate_range: bound of phi_x over all layers together, in the unit of the vectors.
        moves_last: whether the last layer moves the atoms too. A generator reads displacements; an energy is made of
            the features, which that move does not reach.
    """

    def __init__(
        self,
        channels: int,
        num_attributes: int,
        num_layers: int,
        avg_num_neighbors: float,
        coordinate_range: float,
        moves_last: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EGNNLayer(channels, num_attributes, avg_num_neighbors, step if moves_last or i + 1 < num_layers else None)
            for i, step in enumerate([coordinate_range / num_layers] * num_layers)
        )

    def forward(
        self, features: Tensor, vectors: Tensor, attributes: Tensor, weights: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        """The features after the last layer, and the displacements (atoms, 3) of all layers together."""
        displacements = vectors.new_zeros(len(features), 3)
        for layer in self.layers:
            moved = vectors + displacements[edges.sender] - displacements[edges.receiver]
            features, step = layer(features, moved, attributes, weights, edges)
            displacements = displacements + step
        return features, displacements


class EGNNLayer(nn.Module):
    """The equations of the module docstring; without a `coordinate_range` the atoms stay where they are.

    The first linear map of phi_e acts on a concatenation: it is a sum of maps, two of which act on atoms, not edges.
    """

    def __init__(
        self, channels: int, num_attributes: int, avg_num_neighbors: float, coordinate_range: float | None
    ) -> None:
        super().__init__()
        self.avg_num_neighbors = avg_num_neighbors
        self.of_receiver = MLP((channels, channels))
        self.of_sender = MLP((channels, channels))
        self.of_edge = MLP((1 + num_attributes, channels))
        self.message = MLP((channels, channels))
        self.gate = MLP((channels, 1))
        self.move = None if coordinate_range is None else CoordinateUpdate(channels, coordinate_range)
        self.update = MLP((2 * channels, channels, channels))

    def forward(
        self, features: Tensor, vectors: Tensor, attributes: Tensor, weights: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        """The new features, and the steps (atoms, 3) by which the atoms move."""
        squared = vectors.square().sum(dim=1, keepdim=True)
        # summed in place, which no gradient minds
        mapped = self.of_receiver(features).index_select(0, edges.receiver)
        mapped.add_(self.of_sender(features).index_select(0, edges.sender))
        mapped.add_(self.of_edge(torch.cat([squared, attributes], dim=1)))
        messages = silu(self.message(silu(mapped / math.sqrt(3))))
        gates = torch.sigmoid(self.gate(messages)) * (weights / self.avg_num_neighbors)[:, None]
        summed = torch.zeros_like(features).index_add(0, edges.receiver, gates * messages)
        updated = features + self.update(torch.cat([features, summed], dim=1))
        steps = vectors.new_zeros(len(features), 3)
        if self.move is not None:
            steps = steps.index_add(0, edges.receiver, gates * self.move(messages, vectors))
        return updated, steps


class CoordinateUpdate(nn.Module):
    """(x_i - x_j) / (|x_i - x_j| + 1) phi_x(m_ij) of every edge: what sender j adds to the step of receiver i."""

    def __init__(self, channels: int, coordinate_range: float) -> None:
        super().__init__()
        self.coordinate_range = coordinate_range
        self.phi = MLP((channels, channels, 1))

    def forward(self, messages: Tensor, vectors: Tensor) -> Tensor:
        length = torch.sqrt(vectors.square().sum(dim=1, keepdim=True) + 1e-8)  # smooth at zero
        strength: Tensor = self.coordinate_range * torch.tanh(self.phi(messages))
        return strength * (-vectors / (length + 1))
