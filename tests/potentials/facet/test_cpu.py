"""The CPU program of Facet against the same model by autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ase import Atoms

from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.facet import Facet, FacetConfig
from atomsml.testing import seeded
from tests.potentials.program_tests import ProgramTests, assert_equal, systems

SMALL: dict[str, Any] = {
    "elements": (1, 6, 8),
    "cutoff": 4.0,
    "channels": (12, 8),  # slices of 8 and 4
    "lmax": 1,
    "grid_channels": 10,
    "num_splines": 8,
    "readout_channels": 6,
    "avg_num_neighbors": 8.0,
    "scale": 0.7,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "three degrees": {"lmax": 2, "channels": (12, 8, 4), "shift": -0.3},
    "signals of a higher degree than features": {"lmax": 2},
    "one layer": {"num_layers": 1},
    "three layers": {"num_layers": 3},
}


def make(**options: Any) -> Facet:
    return seeded(Facet, FacetConfig(**{**SMALL, **options})).requires_grad_(False)


class TestFacetProgram(ProgramTests):
    @pytest.fixture
    def model(self) -> Facet:
        return make()


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_it_is_the_function_of_every_variant(options: dict[str, Any]) -> None:
    model, graph = make(**options), systems().with_neighbors(4.0)
    assert_equal(model.predictor()(graph, stress=True), evaluate(model, graph, stress=True), 1e-7)


def test_an_isolated_atom_has_its_reference_energy_to_the_last_bit() -> None:
    model = make()
    energies = [model.predictor()(AtomicGraph.from_ase(Atoms([z]))).energy for z in model.elements]
    assert torch.equal(torch.cat(energies), model.references)


def test_products_of_three_signals_have_no_program() -> None:
    model, graph = make(order=3), systems().with_neighbors(4.0)
    assert model.program() is None
    assert torch.equal(model.predictor()(graph).energy, evaluate(model, graph).energy)
