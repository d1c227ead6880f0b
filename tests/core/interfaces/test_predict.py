"""predict(): the numbers of evaluate(), whatever the way to them."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk

import atomsml
from atomsml import AtomicGraph, predict
from atomsml.geometry import ImpossibleGeometry
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


@pytest.mark.parametrize("wrong", [10**6, -5])
@pytest.mark.parametrize("precision", ["float32", "mixed", "float64"])
def test_edges_that_name_no_atom_are_refused_everywhere(potential, precision, wrong):
    graph = AtomicGraph.from_smiles("CCO").with_neighbors(5.0)
    edges = graph.edge_index.clone()
    edges[0, 0] = wrong
    bad = graph.replace(edge_index=edges)
    calculator = atomsml.AtomsMLCalculator(potential, precision=precision)
    for ask in (lambda: predict(potential, bad), lambda: atomsml.evaluate(potential, bad)):
        with pytest.raises(ValueError, match=f"edge 0 joins atoms {wrong} and 0"):
            ask()
    with pytest.raises(ValueError, match=f"edge 0 joins atoms {wrong} and 0"):
        calculator.predict_batch(bad)
    with pytest.raises(ValueError, match=f"graph 1: edge 0 joins atoms {wrong} and 0"):
        predict(potential, [graph, bad])


def test_atoms_in_one_place_are_an_error(potential):
    water = AtomicGraph.from_smiles("O")
    positions = water.positions.clone()
    positions[2] = positions[1]
    with pytest.raises(ValueError, match="atoms 1 and 2 are less than"):
        predict(potential, water.replace(positions=positions))


def test_energies_that_are_not_finite_are_an_error(pair_potential):
    """1.5e-3 A apart, where (sigma/r)^12 is more than float32 can hold."""
    graph = AtomicGraph.from_ase(ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 1.5e-3]]))
    with pytest.raises(ImpossibleGeometry, match="the model gives no finite energy and forces; do atoms overlap"):
        predict(pair_potential.cast(torch.float32), graph.to(dtype=torch.float32))


def test_threads_get_what_one_gets(potential):
    graphs = [AtomicGraph.from_smiles(smiles, seed) for seed in range(8) for smiles in SMILES]
    alone = [predict(potential, graph).forces for graph in graphs]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda graph: predict(potential, graph).forces, graphs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", ["numbers", "batch", "edge_index"])
def test_a_predictor_refuses_indices_of_another_type(potential, molecules, name):
    """Kernels would read past their ends."""
    graph = molecules[1].connected(potential.cutoff)
    with pytest.raises(ValueError, match=rf"AtomicGraph.{name} must have the type int64, got torch.int32"):
        potential.predictor()(graph.replace(**{name: getattr(graph, name).int()}))
