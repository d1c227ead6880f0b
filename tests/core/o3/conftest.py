"""Rotations and directions that the tests of o3 share."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation


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
