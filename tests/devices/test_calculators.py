"""What asks a potential: the calculator, uncertainties, relaxation in batches, dynamics. They bring what they need to
the device, and back."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from atomsml.dataset import read_dataset
from atomsml.device import has_float64
from atomsml.graph import AtomicGraph
from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.potentials.mace import MACE
from atomsml.simulate.batching.in_flight import Room
from atomsml.simulate.model import Model
from atomsml.simulate.relax import RelaxSettings, relax_many
from atomsml.uncertainty import Committee
from atomsml.uncertainty.last_layer import LastLayerUncertainty

MakeMACE = Callable[[int], MACE]
ROUNDING = {"mixed": 1e-5, "float32": 1e-4}  # relative: networks in float32, sums in float64 or not


def assert_same(found: AtomsMLCalculator, expected: AtomsMLCalculator, images: list[ase.Atoms]) -> None:
    """Everything that a calculator says, as the structure moves, and of other structures."""
    for atoms in images:
        moved = atoms.copy()
        moved.rattle(0.02, seed=5)
        for image in (atoms, moved):
            for calculator in (found, expected):
                calculator.calculate(image, ["energy", "forces", "stress"])
            assert found.results.keys() == expected.results.keys()
            for name, value in expected.results.items():
                size = max(1.0, float(np.abs(value).max()))
                rounding = ROUNDING[found.parameters["precision"]]
                assert found.results[name] == pytest.approx(value, abs=rounding * size), name


def test_a_calculator(device: torch.device, precision: str, make_mace: MakeMACE, images: list[ase.Atoms]) -> None:
    found, expected = (AtomsMLCalculator(make_mace(0), str(where), precision) for where in (device, "cpu"))
    assert found.device == device
    assert_same(found, expected, images)
    assert_same(copy.deepcopy(found), expected, images[:1])
    again = pickle.loads(pickle.dumps(found))
    assert again.device == device
    assert_same(again, expected, images[:1])


def test_auto_takes_a_device_that_holds_the_precision(device: torch.device, make_mace: MakeMACE) -> None:
    assert AtomsMLCalculator(make_mace(0), precision="float32").device == device
    fallback = device if has_float64(device) else torch.device("cpu")
    assert AtomsMLCalculator(make_mace(0), precision="mixed").device == fallback


def test_embedded_models(device: torch.device, precision: str, images: list[ase.Atoms]) -> None:
    found, expected = (AtomsMLCalculator("organic-xtb", str(where), precision) for where in (device, "cpu"))
    assert_same(found, expected, images[:1])


def test_a_committee(device: torch.device, precision: str, make_mace: MakeMACE, images: list[ase.Atoms]) -> None:
    members = [make_mace(seed) for seed in (0, 1)]
    found, expected = (AtomsMLCalculator(members, str(where), precision) for where in (device, "cpu"))
    assert_same(found, expected, images[1:2])
    assert found.results["forces_std"].max() > 0


def test_the_last_layer(cuda: torch.device, make_mace: MakeMACE, water: Path) -> None:
    """Fitted on the device and on the CPU, and asked there."""
    dataset = read_dataset(water)
    train, valid = dataset.subset(range(16)), dataset.subset(range(16, 24))
    here = LastLayerUncertainty.fit(make_mace(0), train, valid)
    there = LastLayerUncertainty.fit(make_mace(0).to(cuda), train, valid)
    assert there.factor.device == cuda
    assert there.facts == pytest.approx(here.facts, rel=1e-6)
    graph = dataset.batch([0, 1])
    found, expected = there(graph.to(cuda))["energy_std"], here(graph)["energy_std"]
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    calculators = [AtomsMLCalculator(each, str(where)) for each, where in ((there, cuda), (here, "cpu"))]
    assert_same(*calculators, [molecule("H2O")])


def test_committees_are_asked_directly(
    device: torch.device, dtype: torch.dtype, make_mace: MakeMACE, graph: AtomicGraph
) -> None:
    committee = Committee([make_mace(seed).to(dtype) for seed in (0, 1)])
    there = copy.deepcopy(committee).to(device)
    found, expected = there(graph.to(device, dtype))["forces_std"], committee(graph.to(dtype=dtype))["forces_std"]
    assert found.device == device
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e3 * torch.finfo(dtype).eps)


def test_relaxation_in_batches(
    device: torch.device, precision: str, make_mace: MakeMACE, images: list[ase.Atoms]
) -> None:
    """The calculator's and a potential's own predictions; structures that end at different steps."""
    settings = RelaxSettings(fmax=0.02, steps=6)
    ends = {}
    for where in (device, torch.device("cpu")):
        calculator = AtomsMLCalculator(make_mace(0), str(where), precision)
        done = list(relax_many(images, Model(calculator.predict_batch), settings, Room(atoms=12), device=where))
        ends[where.type] = {each.index: each for each in done}
    for index, expected in ends["cpu"].items():
        found = ends[device.type][index]
        assert found.state.step == expected.state.step
        assert found.atoms.positions == pytest.approx(expected.atoms.positions, abs=1e-3)
