"""SchNet obeys what every potential must."""

import pytest
from atomsml_example.schnet import SchNet, SchNetConfig

from atomsml.testing import PotentialTests, seeded


class TestSchNet(PotentialTests):
    @pytest.fixture
    def potential(self):
        return seeded(SchNet, SchNetConfig(elements=(1, 8), channels=8, num_layers=2, num_gaussians=6))
