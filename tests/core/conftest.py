"""A potential small enough to check by hand, rotations and directions, and kernels with and without checks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from atomsml.codegen.checks import checked_indices
from atomsml.graph import NeighborGraph
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
        super().__init__(config)
        self.sigma = nn.Parameter(torch.linspace(1.6, 2.0, len(self.elements)))
        self.references = torch.linspace(-13.6, -10.7, len(self.elements), dtype=torch.float64)

    def forward(self, graph: NeighborGraph) -> Tensor:
        sender, receiver = graph.edge_index
        species = self.species(graph.numbers)
        sigma = (self.sigma[species[sender]] + self.sigma[species[receiver]]) / 2
        r = graph.edge_vectors().norm(dim=1).to(self.sigma.dtype)
        x = (4 * r / self.cutoff - 3).clamp(0, 1)
        envelope = (1 - x) ** 3 * (1 + 3 * x + 6 * x**2)
        pair = 2 * self.config.epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6) * envelope
        energies = self.references[species].to(graph.dtype)
        return energies.index_add(0, receiver, pair.to(graph.dtype))


@pytest.fixture(params=["as it is", "indices checked"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """With CPU kernels as they are used, and with kernels that raise IndexError at a wrong index."""
    with checked_indices(request.param == "indices checked"):
        yield


@pytest.fixture
def pair_potential() -> SmoothLennardJones:
    """In float64."""
    return SmoothLennardJones(PairConfig()).cast(torch.float64)


@pytest.fixture
def rotations() -> torch.Tensor:
    """Proper rotations (11, 3, 3), random ones and those at which Euler angles are singular."""
    special = [[0, 0, 0], [np.pi, 0, 0], [0, np.pi, 0], [0, 0, np.pi], [0, 0.7, 0], [np.pi / 2, 0, 0]]
    matrices = [Rotation.random(5, rng=np.random.default_rng(7)).as_matrix(), Rotation.from_rotvec(special).as_matrix()]
    return torch.tensor(np.concatenate(matrices))


@pytest.fixture
def directions() -> torch.Tensor:
    """Vectors (31, 3) of lengths from 1e-3 to 1e3, the six poles and a near-pole among them."""
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    scaled = vectors * torch.logspace(-3, 3, 24, dtype=torch.float64).unsqueeze(-1)
    poles = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    return torch.cat([scaled, poles, torch.tensor([[1e-9, 1.0, 0.0]], dtype=torch.float64)])
