"""Charges of MACE: symmetries, both ways of computing them, and that energies and forces do not feel them."""

import dataclasses
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from scipy.spatial.transform import Rotation

from atomsml import AtomsMLCalculator, evaluate, load, predict
from atomsml.electronic_state import ElectronicState
from atomsml.graph import AtomicGraph
from atomsml.modelfile import save
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.potentials.mace.cpu import MACEOnCPU
from atomsml.properties.engine import Engine
from atomsml.testing import assert_ase_contract
from atomsml.uncertainty import Committee
from atomsml.uncertainty.last_layer import LastLayerUncertainty

SMALL: dict[str, Any] = {"elements": (1, 6, 8), "cutoff": 4.0, "channels": 10, "lmax": 2, "correlation": 2}


def make(seed: int = 0, **options: Any) -> MACE:
    """A head that has something to say; without one, the same weights otherwise."""
    torch.manual_seed(seed)
    model = MACE(MACEConfig(**{**SMALL, "charges": True, **options})).double()
    if model.charge_head is not None:
        torch.nn.init.normal_(model.charge_head.mlp.weights[-1])
    return model.requires_grad_(False)


def graphs() -> AtomicGraph:
    images = [molecule("CH3CH2OH"), molecule("H2O"), bulk("C", "diamond", 3.6), ase.Atoms("O")]
    return AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in images])


def test_symmetries():
    model, rotation = make(), torch.from_numpy(Rotation.random(rng=2).as_matrix())
    graph = AtomicGraph.from_list([AtomicGraph.from_smiles(s) for s in ("CCO", "OC=O")])
    found = evaluate(model, graph)
    turned = evaluate(model, graph.replace(positions=graph.positions @ rotation.T))
    mirrored = evaluate(model, graph.replace(positions=-graph.positions))
    moved = evaluate(model, graph.replace(positions=graph.positions + 7.0))
    assert found["dipole"].norm(dim=1).min() > 0.1
    for other in (turned, mirrored, moved):
        torch.testing.assert_close(other["charges"], found["charges"], rtol=0, atol=1e-10)
    torch.testing.assert_close(turned["dipole"], found["dipole"] @ rotation.T, rtol=0, atol=1e-10)
    torch.testing.assert_close(mirrored["dipole"], -found["dipole"], rtol=0, atol=1e-10)
    torch.testing.assert_close(moved["dipole"], found["dipole"], rtol=0, atol=1e-10)
    turned_back = rotation.T @ turned["quadrupole"] @ rotation
    torch.testing.assert_close(turned_back, found["quadrupole"], rtol=0, atol=1e-10)
    torch.testing.assert_close(mirrored["quadrupole"], found["quadrupole"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("charge", [None, 0, -1])
def test_charges_sum_to_the_charge_of_the_model(charge):
    model = make()
    model.electronic_state = ElectronicState(charge, None)
    found, graph = evaluate(model, graphs()), graphs()
    sums = torch.zeros(4, dtype=torch.float64).index_add(0, graph.batch, found["charges"])
    torch.testing.assert_close(sums, torch.full_like(sums, charge or 0), rtol=0, atol=1e-14)


def test_energies_and_forces_do_not_feel_the_head():
    without, graph = make(charges=False), graphs()
    model = make()
    model.load_state_dict(without.state_dict(), strict=False)
    for compute in (evaluate, lambda *arguments, **options: predict(*arguments, **options)):
        with_head, plain = compute(model, graph, stress=True), compute(without, graph, stress=True)
        for name in ("energy", "forces", "stress"):
            assert torch.equal(with_head[name].nan_to_num(), plain[name].nan_to_num())
        assert "charges" not in plain.atom_data


@pytest.mark.parametrize("options", [{}, {"hidden_lmax": 0}, {"num_layers": 1}, {"num_layers": 3, "hidden_lmax": 2}])
@pytest.mark.parametrize("forces", [True, False])
def test_the_program_says_what_autograd_says(options, forces):
    """To what its tables deviate by."""
    model, graph = make(**options), graphs().with_neighbors(4.0)
    exact, found = evaluate(model, graph, forces=False), MACEOnCPU(model)(graph, forces)
    for name in ("charges", "dipole", "quadrupole"):
        torch.testing.assert_close(found[name], exact[name], rtol=0, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("options", [{"product": "gaunt"}, {"interaction": "gated", "radial_mlp": (8,)}])
def test_architectures_without_a_program_have_charges_too(options):
    found = predict(make(**options), graphs())
    assert found["charges"].isfinite().all()
    assert found["dipole"][2].isnan().all()


def test_calculator():
    assert_ase_contract(AtomsMLCalculator(make(), device="cpu"), ("O", "H"))
    water, diamond = molecule("H2O"), bulk("C", "diamond", 3.6)
    water.calc = diamond.calc = AtomsMLCalculator(make(), device="cpu", precision="float64")
    charges, dipole = water.get_charges(), water.get_dipole_moment()
    assert charges.sum() == pytest.approx(0, abs=1e-14)
    assert abs(dipole[2]) > 0.01
    assert dipole[:2] == pytest.approx([0, 0], abs=1e-10)
    assert water.calc.results["quadrupole"].shape == (3, 3)
    assert diamond.get_charges() == pytest.approx([0, 0], abs=1e-10)
    with pytest.raises(PropertyNotImplementedError):
        diamond.get_dipole_moment()
    water.calc = AtomsMLCalculator(make(charges=False), device="cpu")
    with pytest.raises(PropertyNotImplementedError):
        water.get_charges()


def test_files(tmp_path: Path):
    model = make()
    save(model, tmp_path / "model.safetensors", {})
    read = load(tmp_path / "model.safetensors")
    assert read.has_charges
    found, expected = (evaluate(each, graphs())["charges"] for each in (read, model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    broken = make()
    broken.config = dataclasses.replace(broken.config, charges=False)
    save(broken, tmp_path / "broken.safetensors", {})
    with pytest.raises(ValueError, match="unexpected tensor 'charge_head"):
        load(tmp_path / "broken.safetensors")


def test_committees_and_uncertainty():
    members, water = [make(seed) for seed in (0, 1)], AtomicGraph.from_smiles("O")
    found = predict(Committee(members), water)
    for name in ("charges", "dipole", "quadrupole"):
        mean = (predict(members[0], water)[name] + predict(members[1], water)[name]) / 2
        torch.testing.assert_close(found[name], mean, rtol=0, atol=1e-12)
    assert "charges" not in predict(Committee([members[0], make(charges=False)]), water).atom_data
    weights = sum(weight.numel() for weight in members[0].last_layer())
    uncertain = LastLayerUncertainty(members[0], torch.eye(weights, dtype=torch.float64), {})
    atoms = molecule("H2O")
    atoms.calc = AtomsMLCalculator(uncertain, device="cpu", precision="float64")
    assert atoms.get_charges().sum() == pytest.approx(0, abs=1e-14)


def test_the_engine_brings_them_also_beside_what_is_impossible():
    calculator = AtomsMLCalculator(make(), device="cpu", precision="float64")
    images = [molecule("H2O"), ase.Atoms("O2", [(0, 0, 0), (0, 0, 0)]), bulk("C", "diamond", 3.6), molecule("CH3OH")]
    found = Engine.of(calculator).evaluate(images)
    for i in (0, 3):
        images[i].calc = calculator
        assert found[i].get_charges() == pytest.approx(images[i].get_charges(), abs=1e-9)
        assert found[i].get_dipole_moment() == pytest.approx(images[i].get_dipole_moment(), abs=1e-9)
    assert np.isnan(found[1].get_potential_energy())
    assert "charges" not in found[1].calc.results
    assert "dipole" not in found[2].calc.results
