"""The layers of EGNN as published (Satorras et al., arXiv:2102.09844), equal to those of its authors' program.

    m_ij = phi_e(h_i, h_j, |x_i - x_j|^2, a_ij)
    x_i <- x_i + 1/n_i sum_j (x_i - x_j) phi_x(m_ij) + phi_v(h_i) v_i
    h_i <- h_i + phi_h(h_i, sum_j m_ij)

All perceptrons have biases, but for the last map of phi_x, which starts small. With attention m_ij is multiplied by
sigmoid(phi_inf(m_ij)) before it is used. Velocities v are for particles that have some. `atomsml.nn.egnn` has the
layers that this package prefers for energies.

| symbol | name | shape |
|---|---|---|
| h | features | (atoms, channels) |
| x_j - x_i | vectors | (edges, 3): from receiver i to sender j |
| a | attributes | (edges, num_attributes): what else is known of an edge |
| v | velocities | (atoms, 3) |
| n | | number of neighbours of an atom |

Nothing fades out at the end of a neighbour list: energies jump where an atom enters it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from atomsml.nn.linear import UnitLinear
from atomsml.ops.convolution import Edges
from atomsml.ops.matmul import matmul

Linear = type[nn.Linear] | type[UnitLinear]


def of_ends(perceptron: nn.Sequential, features: Tensor, attributes: Tensor, edges: Edges) -> Tensor:
    """A perceptron of [h_i, h_j, a_ij] (edges, ...).

    Its first map is a sum of maps, two of which act on atoms, of which there are fewer than edges. They are summed in
    place, which no gradient minds.
    """
    linear = perceptron[0]
    assert isinstance(linear, nn.Linear)
    scale = linear.scale if isinstance(linear, UnitLinear) else 1.0
    channels = features.shape[1]
    weights = (scale * linear.weight).split([channels, channels, attributes.shape[1]], dim=1)
    of_receiver, of_sender, of_edge = (weight.T for weight in weights)
    mapped = (matmul(features, of_receiver) + scale * linear.bias).index_select(0, edges.receiver)
    mapped.add_(matmul(features, of_sender).index_select(0, edges.sender)).add_(attributes @ of_edge)
    outputs: Tensor = perceptron[1:](mapped)
    return outputs


class MessagePassing(nn.Module):
    """h_i <- h_i + phi_h(h_i, sum_j m_ij / avg_num_neighbors) with m_ij = phi_e(h_i, h_j, attributes).

    Args:
        num_attributes: how many numbers describe an edge, its length among them.
        attention: whether messages have gates.
        linear: the class of the linear maps.
    """

    def __init__(
        self,
        channels: int,
        num_attributes: int,
        attention: bool,
        avg_num_neighbors: float = 1.0,
        linear: Linear = nn.Linear,
    ) -> None:
        super().__init__()
        self.avg_num_neighbors = avg_num_neighbors
        self.phi_e = nn.Sequential(
            linear(2 * channels + num_attributes, channels), nn.SiLU(), linear(channels, channels), nn.SiLU()
        )
        self.phi_h = nn.Sequential(linear(2 * channels, channels), nn.SiLU(), linear(channels, channels))
        self.phi_inf = linear(channels, 1) if attention else None

    def forward(self, features: Tensor, attributes: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """The new features, and the messages (edges, channels)."""
        messages = of_ends(self.phi_e, features, attributes, edges)
        if self.phi_inf is not None:
            messages = torch.sigmoid(self.phi_inf(messages)) * messages
        summed = torch.zeros_like(features).index_add(0, edges.receiver, messages) / self.avg_num_neighbors
        return features + self.phi_h(torch.cat([features, summed], dim=1)), messages


def small_readout(channels: int, linear: Linear = nn.Linear) -> nn.Linear:
    """The last map of a perceptron that moves atoms: without a bias, from Xavier's uniform distribution times 0.001."""
    last = linear(channels, 1, bias=False)
    last.weight.data.mul_(1e-3 * math.sqrt(6 * channels / (channels + 1)))  # both classes start as U(-1, 1) / sqrt(n)
    return last


class PaperEGNNLayer(nn.Module):
    """The equations of the module docstring.

    Args:
        moves: whether the layer moves atoms by the messages.
        velocities: whether it moves them along velocities.
    """

    def __init__(
        self,
        channels: int,
        num_attributes: int = 0,
        attention: bool = False,
        moves: bool = True,
        velocities: bool = False,
        linear: Linear = nn.Linear,
    ) -> None:
        super().__init__()
        self.messages = MessagePassing(channels, 1 + num_attributes, attention, linear=linear)
        self.phi_x = (
            nn.Sequential(linear(channels, channels), nn.SiLU(), small_readout(channels, linear)) if moves else None
        )
        self.phi_v = nn.Sequential(linear(channels, channels), nn.SiLU(), linear(channels, 1)) if velocities else None

    def forward(
        self, features: Tensor, vectors: Tensor, attributes: Tensor, edges: Edges, velocities: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The new features, and the steps (atoms, 3) by which the atoms move."""
        squared = vectors.square().sum(dim=1, keepdim=True)
        updated, messages = self.messages(features, torch.cat([squared, attributes], dim=1), edges)
        steps = vectors.new_zeros(len(features), 3)
        if self.phi_x is not None:
            neighbors = vectors.new_zeros(len(features)).index_add(0, edges.receiver, torch.ones_like(vectors[:, 0]))
            steps = steps.index_add(0, edges.receiver, -vectors * self.phi_x(messages))
            steps = steps / neighbors.clamp(min=1)[:, None]
        if self.phi_v is not None and velocities is not None:
            steps = steps + self.phi_v(features) * velocities
        return updated, steps


class PaperEGNNLayers(nn.Module):
    """Layers one after the other; `moves_last`: whether the last one moves atoms by messages, too."""

    def __init__(
        self,
        channels: int,
        num_layers: int,
        num_attributes: int = 0,
        attention: bool = False,
        moves: bool = True,
        moves_last: bool = True,
        velocities: bool = False,
        linear: Linear = nn.Linear,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PaperEGNNLayer(
                channels, num_attributes, attention, moves and (moves_last or i + 1 < num_layers), velocities, linear
            )
            for i in range(num_layers)
        )

    def forward(
        self, features: Tensor, vectors: Tensor, attributes: Tensor, edges: Edges, velocities: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The features after the last layer, and the displacements (atoms, 3) of all layers together."""
        displacements = vectors.new_zeros(len(features), 3)
        for layer in self.layers:
            moved = vectors + displacements[edges.sender] - displacements[edges.receiver]
            features, step = layer(features, moved, attributes, edges, velocities)
            displacements = displacements + step
        return features, displacements
