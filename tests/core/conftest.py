"""A potential small enough to check by hand, for the tests of everything that takes a potential."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from atomsml.graph import AtomicGraph
from atomsml.potential import Potential


@dataclass(frozen=True)
class PairConfig:
    elements: tuple[int, ...] = (1, 18)
    cutoff: float = 5.0
    epsilon: float = 0.1


class SmoothLennardJones(Potential):
    """Half of sum_j 4 epsilon [(s/r)^12 - (s/r)^6] w(r) per atom, s the mean sigma of a pair.

    w = 1 below 3/4 of the cutoff, from there (1 - x)^3 (1 + 3 x + 6 x^2), which is twice differentiable at both ends.
    """

    Config = PairConfig

    def __init__(self, config: PairConfig) -> None:
        super().__init__()
        self.config, self.cutoff, self.elements = config, config.cutoff, config.elements
        self.sigma = nn.Parameter(torch.linspace(1.6, 2.0, len(self.elements)))
        self.register_buffer("references", torch.linspace(-13.6, -10.7, len(self.elements), dtype=torch.float64))

    def forward(self, graph: AtomicGraph) -> Tensor:
        sender, receiver = graph.edge_index
        species = self.species(graph.numbers)
        sigma = (self.sigma[species[sender]] + self.sigma[species[receiver]]) / 2
        r = graph.edge_vectors().norm(dim=1).to(self.sigma.dtype)
        x = (4 * r / self.cutoff - 3).clamp(0, 1)
        envelope = (1 - x) ** 3 * (1 + 3 * x + 6 * x**2)
        pair = 2 * self.config.epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6) * envelope
        energies = self.references[species].to(graph.dtype)
        return energies.index_add(0, receiver, pair.to(graph.dtype))


@pytest.fixture
def pair_potential() -> SmoothLennardJones:
    """In float64."""
    return SmoothLennardJones(PairConfig()).cast(torch.float64)
