"""The CPU program of NequIP against the same model by autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ase import Atoms

from atomsml import AtomsMLCalculator
from atomsml.graph import AtomicGraph
from atomsml.nn.linear import GradedLinear
from atomsml.potential import evaluate
from atomsml.potentials.nequip import NEQUIP, NequIP, NequIPConfig
from atomsml.testing import assert_ase_contract, seeded
from tests.potentials.program_tests import ProgramTests, assert_equal, systems

SMALL: dict[str, Any] = {
    "elements": (1, 6, 8),
    "cutoff": 4.0,
    "channels": (20, 12, 8),  # slices of 8, 4 and 8
    "num_layers": 3,
    "radial_mlp": (16,),
    "readout_channels": 8,
    "avg_num_neighbors": 8.0,
    "scale": 0.7,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "natural parity": {"shift": -0.3},
    "SevenNet-0": {"self_connection": "linear", "inversion": False, "relative_to_isolated": False, "xplor_onset": 3.2},
    "SevenNet-l3i5": {"self_connection": "linear", "inversion": False, "lmax": 3, "channels": (16, 8, 4, 4)},
    "equal channels": {"channels": (16, 16, 16)},
    "SevenNet-MF-0": {"self_connection": "linear", "scalar_biases": True, "relative_to_isolated": False},
    "biases cancel": {"scalar_biases": True},
    "harmonics that grow": {"harmonics": "solid", "inversion": False, "xplor_onset": 3.2},
    "scalars only": {"channels": (12,), "lmax": 0},
    "nequip": {**NEQUIP, "embedding_channels": 7},
    "nequip, equal channels": {**NEQUIP, "channels": (8, 8), "lmax": 2},
    "embedding and SevenNet": {"self_connection": "embedding", "embedding_channels": 24, "inversion": False},
    "one readout with biases": {"readout_channels": None, "scalar_biases": True, "relative_to_isolated": False},
    "nequip's package": {**NEQUIP, "element_scales": True, "zbl": True, "relative_to_isolated": False},
    "factors and constants": {"element_scales": True, "scalar_biases": True, "relative_to_isolated": False},
    "one layer": {"num_layers": 1},
    "two layers": {"num_layers": 2},
    "trimmed": {"radial_mlp": (), "num_splines": 8, "self_connection": "linear"},
    "trimmed SevenNet": {"radial_mlp": (), "num_splines": 9, "inversion": False, "xplor_onset": 3.0},
}


def make(**options: Any) -> NequIP:
    model = seeded(NequIP, NequIPConfig(**{**SMALL, **options})).requires_grad_(False)
    for i, layer in enumerate(model.modules()):
        if isinstance(layer, GradedLinear) and layer.bias is not None:
            layer.bias.copy_(torch.linspace(-0.3, 0.1 * i, len(layer.bias)))
    if options.get("element_scales"):
        model.element_scales.copy_(torch.tensor([0.5, 1.75, 1.25]))
    return model


class TestNequIPProgram(ProgramTests):
    @pytest.fixture
    def model(self) -> NequIP:
        return make(channels=(12, 8), lmax=1, num_layers=2)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_it_is_the_function_of_every_variant(options: dict[str, Any]) -> None:
    model, graph = make(**options), systems().with_neighbors(4.0)
    assert_equal(model.predictor()(graph, stress=True), evaluate(model, graph, stress=True), 1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_isolated_atom_has_its_reference_energy_to_the_last_bit(dtype: torch.dtype) -> None:
    model = make().cast(dtype)
    energies = [model.predictor()(AtomicGraph.from_ase(Atoms([z]))).energy for z in model.elements]
    assert torch.equal(torch.cat(energies), model.references)


def test_elements_that_come_later_change_nothing() -> None:
    model, graphs = make(), systems().with_neighbors(4.0).to_list()
    program = model.predictor()
    for graph in (graphs[1], graphs[0], graphs[2]):  # C and O; then H as well; then C alone
        assert_equal(program(graph, stress=True), model.predictor()(graph, stress=True), 1e-12)


def test_ase_contract() -> None:
    assert_ase_contract(AtomsMLCalculator(make(relative_to_isolated=True), device="cpu"), ("O", "H"))
