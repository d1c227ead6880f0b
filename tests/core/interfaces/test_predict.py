"""predict(): the numbers of evaluate(), whatever the way to them."""

import gc
import weakref

import numpy as np
import pytest
import torch
from ase.build import bulk

import atomsml
from atomsml import AtomicGraph, predict
from atomsml.interfaces import predict as home
from atomsml.potential import Potential, Prediction
from atomsml.uncertainty import Committee

TABULATED = 1e-5  # eV/A, and eV for an energy: what tables of radial functions may change (docs/speed.md)
SMILES = ("O", "CCO", "c1ccccc1", "CC(=O)N", "C")


@pytest.fixture(scope="module")
def potential() -> Potential:
    return atomsml.load("organic-xtb").cast(torch.float64)


@pytest.fixture(scope="module")
def molecules() -> list[AtomicGraph]:
    return [AtomicGraph.from_smiles(smiles) for smiles in SMILES]


def assert_close(found: Prediction, wanted: Prediction, tolerance: float) -> None:
    for name in ("energy", "atom_energies", "forces"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=tolerance, err_msg=name)


def test_one_graph_and_many_agree_with_evaluate(potential, molecules, monkeypatch):
    monkeypatch.setattr(home, "MOST_ATOMS", 20)  # several batches, and one of a single molecule
    for found, graph in zip(predict(potential, molecules), molecules, strict=True):
        wanted = atomsml.evaluate(potential, graph)
        assert_close(found, wanted, TABULATED)
        assert_close(predict(potential, graph), wanted, TABULATED)


def test_stress_and_energies_alone():
    crystal = AtomicGraph.from_ase(bulk("W", cubic=True) * (2, 1, 1))
    model = atomsml.load("refractory-pbe").cast(torch.float64)
    (found,) = predict(model, [crystal], stress=True)
    wanted = atomsml.evaluate(model, crystal, stress=True)
    np.testing.assert_allclose(found.stress, wanted.stress, rtol=0, atol=TABULATED)
    assert predict(model, crystal, forces=False).forces is None


def test_a_name_is_the_model_of_that_name(molecules):
    by_name, by_model = (predict(model, molecules[:2]) for model in ("organic-xtb", atomsml.load("organic-xtb")))
    for one, other in zip(by_name, by_model, strict=True):
        assert_close(one, other, 0.0)


def test_changed_weights_are_seen(molecules):
    potential = atomsml.load("organic-xtb").cast(torch.float64)
    before = predict(potential, molecules[0])
    optimizer = torch.optim.SGD(potential.parameters(), lr=1e-3)
    atomsml.evaluate(potential, molecules[0], create_graph=True).energy.sum().backward()
    optimizer.step()
    after = predict(potential, molecules[0])
    assert abs(after.energy - before.energy).item() > 100 * TABULATED
    assert_close(after, atomsml.evaluate(potential, molecules[0]), TABULATED)


def test_what_was_made_ready_goes_with_its_model(molecules):
    potential = atomsml.load("organic-xtb")
    predict(potential, molecules[0])
    alive = weakref.ref(potential)
    del potential
    gc.collect()
    assert alive() is None


def test_graphs_with_edges_and_labels_of_their_own(potential, molecules):
    labelled = molecules[1].replace(system_data={"energy": torch.ones(1)})
    mixed = [molecules[0], molecules[2].with_neighbors(potential.cutoff), labelled]
    for found, graph in zip(predict(potential, mixed), mixed, strict=True):
        assert_close(found, atomsml.evaluate(potential, graph), TABULATED)


def test_no_graphs_no_predictions(potential):
    assert predict(potential, []) == []


def test_a_committee_and_its_standard_deviations(potential, molecules):
    other = atomsml.load("organic-xtb").cast(torch.float64)
    other.references = other.references + 1.0  # eV for each atom
    found = predict(Committee([potential, other]), molecules[:2])
    for prediction, graph in zip(found, molecules, strict=False):
        # two members that differ by n: a mean of n/2, a deviation of n / sqrt(2)
        assert prediction["energy_std"].item() == pytest.approx(graph.num_atoms / np.sqrt(2), rel=1e-12)
        assert prediction.forces is not None
        assert_close(
            Prediction(prediction.energy - graph.num_atoms / 2, prediction.atom_energies - 0.5, prediction.forces),
            predict(potential, graph),
            1e-9,
        )


def test_an_unknown_element_is_refused_by_name(potential):
    with pytest.raises(ValueError, match="the model does not know W"):
        predict(potential, AtomicGraph.from_ase(bulk("W")))
