"""Facet obeys what every potential must."""

import functools

import pytest
import torch

from atomsml.potentials.facet import Facet, FacetConfig
from atomsml.testing import PotentialTests

TINY = FacetConfig(
    elements=(1, 8),
    channels=(8, 4, 2),
    grid_channels=6,
    num_splines=7,
    readout_channels=4,
    avg_num_neighbors=8.0,
)


@functools.cache
def make(config: FacetConfig) -> Facet:
    """Random weights and references from a fixed seed, float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        potential = Facet(config)
    potential.references += torch.linspace(-13.6, -432.1, len(config.elements), dtype=torch.float64)
    return potential.cast(torch.float64)


class TestFacet(PotentialTests):
    @pytest.fixture
    def potential(self):
        return make(TINY)
