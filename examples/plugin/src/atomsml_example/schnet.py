"""SchNet: filters that are continuous functions of the distance (Schütt et al., arXiv:1706.08566).

    x_i <- x_i + atomwise(ssp(atomwise(sum_j (atomwise(x_j)) * W(r_ij))))        interaction block, figure 2
    W(r) = ssp(dense(ssp(dense(Gaussians of r))))                                 filter-generating network
    ssp(x) = ln(exp(x) / 2 + 1 / 2)                                               shifted softplus

The paper sums over all atoms; here an envelope ends W at a cutoff, so that the energy is smooth.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomsml.config import check_hyperparameters
from atomsml.graph import NeighborGraph
from atomsml.ops.convolution import Edges
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential
from atomsml.radial.bases import gaussian_basis, polynomial_envelope


@dataclass(frozen=True)
class SchNetConfig:
    """Hyperparameters of SchNet."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: int = 64
    num_layers: int = 3
    num_gaussians: int = 50
    envelope_power: int = 5  # p of the polynomial envelope
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom

    def __post_init__(self) -> None:
        positive = ("cutoff", "channels", "num_layers", "num_gaussians", "envelope_power")
        check_hyperparameters(self, positive=positive, at_most={"num_layers": 16})


class SchNet(Potential):
    """The potential; `SchNet(SchNetConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = SchNetConfig
    config: SchNetConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {"small": {}, "medium": {"channels": 128, "num_layers": 6}}

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Parameter(torch.randn(len(config.elements), config.channels))
        self.blocks = nn.ModuleList(
            Interaction(config.channels, config.num_gaussians) for _ in range(config.num_layers)
        )
        self.readout = nn.Sequential(
            nn.Linear(config.channels, config.channels // 2), ShiftedSoftplus(), nn.Linear(config.channels // 2, 1)
        )

    def forward(self, graph: NeighborGraph) -> Tensor:
        nodes = self.nodes(graph)
        pairs = PairGeometry.from_graph(graph, self.dtype, len(nodes))
        basis = gaussian_basis(pairs.lengths, self.cutoff, self.config.num_gaussians)
        envelope = polynomial_envelope(pairs.lengths, self.cutoff, self.config.envelope_power)
        features = self.embedding[nodes]
        for block in self.blocks:
            features = features + block(features, basis, envelope, pairs.edges)
        return self.atom_energies(self.readout(features).squeeze(1), nodes, graph)


class ShiftedSoftplus(nn.Module):
    """ln(exp(x) / 2 + 1 / 2): smooth, and zero at zero."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.softplus(x) - log(2)


class Interaction(nn.Module):
    """An interaction block: what it adds to the features of the atoms."""

    def __init__(self, channels: int, num_gaussians: int) -> None:
        super().__init__()
        self.before = nn.Linear(channels, channels, bias=False)
        self.filters = nn.Sequential(
            nn.Linear(num_gaussians, channels), ShiftedSoftplus(), nn.Linear(channels, channels), ShiftedSoftplus()
        )
        self.after = nn.Sequential(nn.Linear(channels, channels), ShiftedSoftplus(), nn.Linear(channels, channels))

    def forward(self, features: Tensor, basis: Tensor, envelope: Tensor, edges: Edges) -> Tensor:
        weights = self.filters(basis) * envelope[:, None]  # (pairs, channels)
        messages = self.before(features)[edges.sender] * weights[edges.weight_row]
        summed = torch.zeros_like(features).index_add(0, edges.receiver, messages.to(features.dtype))
        update: Tensor = self.after(summed)
        return update
