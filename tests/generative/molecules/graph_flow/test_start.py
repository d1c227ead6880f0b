"""A flow that is told all bonds starts as the flow that predicts them."""

from __future__ import annotations

import pytest
import torch

from atomsml.generative.molecules.flow.network import Atoms, Guess, MoleculeNetwork
from atomsml.generative.molecules.graph_flow.start import take_weights
from atomsml.generative.molecules.graph_flow.tasks import PAIR_FEATURES

SIZES = {"channels": 8, "pair_channels": 8, "vectors": 2, "hidden": 16, "num_layers": 2}
SAMPLES, NODES, TYPES = 2, 5, 3


def test_it_says_the_same_where_nothing_is_known_of_bonds_or_conditions() -> None:
    """Without a guess, which would tell the older network bonds: of these the younger one has no rows."""
    generator = torch.Generator().manual_seed(0)
    source = MoleculeNetwork(TYPES, 2, 1, True, **SIZES).double()
    network = MoleculeNetwork(TYPES, 0, PAIR_FEATURES, False, **SIZES).double()
    take_weights(network, source)
    positions = torch.randn(SAMPLES, NODES, 3, generator=generator, dtype=torch.float64)
    times, all_atoms = torch.rand(SAMPLES, generator=generator, dtype=torch.float64), torch.ones(SAMPLES, NODES).bool()
    types = torch.randint(TYPES, (SAMPLES, NODES), generator=generator)

    def told(features: int, conditions: int) -> Atoms:
        pairs = positions.new_zeros(SAMPLES, NODES, NODES, features)
        return Atoms(types, all_atoms, ~all_atoms, pairs, positions.new_full((SAMPLES, conditions), torch.nan))

    expected = source(told(1, 2), positions, times, None)
    found = network(told(PAIR_FEATURES, 0), positions, times, None)
    torch.testing.assert_close(found.positions, expected.positions, rtol=0, atol=1e-12)
    assert found.bonds is None
    again = network(told(PAIR_FEATURES, 0), positions, times, Guess(found.positions, None))
    assert (again.positions - found.positions).abs().max() > 1e-6


def test_other_widths_are_refused() -> None:
    source = MoleculeNetwork(TYPES, 0, 1, True, **SIZES)
    with pytest.raises(ValueError, match=r"embedding is \(4, 8\) here and \(3, 8\)"):
        take_weights(MoleculeNetwork(TYPES + 1, 0, PAIR_FEATURES, False, **SIZES), source)
