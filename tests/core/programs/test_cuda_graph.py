"""The logic of CUDA graphs that needs no GPU: padding, and memory that one graph after the other is copied to."""

from __future__ import annotations

import copy

import ase.build
import pytest
import torch

from atomsml import potential as potential_module
from atomsml.graph import AtomicGraph
from atomsml.modelfile import load
from atomsml.nn import linear as layers
from atomsml.ops.convolution import table as convolution
from atomsml.potential import Potential, Prediction, evaluate
from atomsml.programs.cuda_graph import CUDAGraphPredictor, PaddedGraph, bucket_size, pad_edges, unpadded_stress


@pytest.fixture(scope="module")
def potential() -> Potential:
    return load("organic-xtb").cast(torch.float64).requires_grad_(False)


def molecule(name: str, seed: int) -> ase.Atoms:
    atoms = ase.build.molecule(name)
    atoms.rattle(0.05, seed=seed)
    return atoms


def crystal(pbc: bool | tuple[bool, bool, bool], seed: int) -> ase.Atoms:
    """Carbon in a cell so small that atoms see their own images."""
    atoms = ase.build.bulk("C")
    atoms.rattle(0.05, seed=seed)
    atoms.pbc = pbc
    return atoms


def batch(potential: Potential, seed: int = 0) -> AtomicGraph:
    """Open, periodic and partly periodic systems, an isolated atom, and a cell without its first vector."""
    slab = crystal((False, True, True), seed)
    slab.cell[0] = 0
    systems = [molecule("CH3OH", seed), crystal(True, seed), ase.Atoms("H"), crystal((True, True, False), seed), slab]
    graph = AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in systems])
    return graph.with_neighbors(potential.cutoff)


def assert_same(found: Prediction, expected: Prediction) -> None:
    """Sums over a few hundred edges in another order, in float64."""
    for name in ("energy", "atom_energies", "forces", "stress"):
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-11, equal_nan=True)


@pytest.mark.parametrize("extra", [0, 1, 1000])
def test_padding_changes_no_prediction(potential: Potential, extra: int) -> None:
    graph = batch(potential)
    padded = pad_edges(graph, potential.cutoff, graph.num_edges + extra)
    assert padded.num_edges == graph.num_edges + extra
    found, expected = (evaluate(potential, g, stress=True) for g in (padded, graph))
    assert found.stress is not None
    assert expected.stress is not None
    assert expected.stress.isnan().any(dim=(1, 2)).tolist() == [True, False, True, False, True]
    assert_same(
        Prediction(found.energy, found.atom_energies, found.forces, unpadded_stress(found.stress, graph)), expected
    )


def test_padding_is_spread_over_the_atoms_and_lies_beyond_the_cutoff(potential: Potential) -> None:
    graph = batch(potential)
    padded = pad_edges(graph, potential.cutoff, graph.num_edges + 1000)
    sender, receiver = padded.edge_index
    assert (receiver.diff() >= 0).all()
    long = padded.edge_vectors().norm(dim=1) >= 2 * potential.cutoff * (1 - 1e-12)
    assert long.sum() == 1000
    assert torch.equal(sender[long], receiver[long])
    per_atom = receiver[long].bincount(minlength=graph.num_atoms)
    assert per_atom.max() - per_atom.min() <= 1
    # what remains is the neighbour list as it was
    assert torch.equal(padded.edge_index[:, ~long], graph.edge_index)
    assert torch.equal(padded.cell_offsets[~long], graph.cell_offsets)


def test_buckets_are_few_and_not_much_larger_than_needed() -> None:
    for edges in range(20_000):
        assert edges <= bucket_size(edges) <= max(edges + 8, edges * 9 / 8)
        assert bucket_size(bucket_size(edges)) == bucket_size(edges)
    assert len({bucket_size(edges) for edges in range(64, 128)}) <= 9
    assert len({bucket_size(edges) for edges in range(2**16, 2**17, 64)}) <= 9
    assert bucket_size(0) > 0


def test_memory_holds_one_graph_after_the_other(potential: Potential) -> None:
    """As in molecular dynamics: new positions with the same list, another list, another cell, other elements."""
    first = batch(potential)
    moved = first.replace(positions=first.positions + 0.01 * torch.sin(7 * first.positions))
    stretched = moved.replace(cell=1.01 * moved.cell)
    other_list = batch(potential, seed=1)
    other_elements = other_list.replace(numbers=other_list.numbers.where(other_list.numbers != 8, 7))
    size = bucket_size(max(first.num_edges, other_list.num_edges))
    memory = PaddedGraph(potential, first, size)
    where = {name: x.data_ptr() for name, x in vars(memory.graph).items() if isinstance(x, torch.Tensor)}
    for graph in (first, moved, stretched, other_list, other_elements, first):
        memory.load(graph)
        found, expected = (evaluate(potential, g, stress=True) for g in (memory.graph, graph))
        assert found.stress is not None
        stress = unpadded_stress(found.stress, graph)
        assert_same(Prediction(found.energy, found.atom_energies, found.forces, stress), expected)
    assert where == {name: x.data_ptr() for name, x in vars(memory.graph).items() if isinstance(x, torch.Tensor)}


def test_unknown_elements_are_refused_when_they_are_loaded(potential: Potential) -> None:
    graph = batch(potential)
    memory = PaddedGraph(potential, graph, bucket_size(graph.num_edges))
    with pytest.raises(ValueError, match="does not know U"):
        memory.load(graph.replace(numbers=torch.full_like(graph.numbers, 92)))


@pytest.fixture
def _captured(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (convolution, layers, potential_module):
        monkeypatch.setattr(module, "capturing", lambda device: True)


@pytest.mark.usefixtures("_captured")
def test_what_is_captured_changes_no_prediction(potential: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two directions of a pair share nothing, since pairs cannot be counted; nor do atoms of an element."""
    graph = batch(potential)
    found = evaluate(potential, graph, stress=True)
    monkeypatch.undo()
    assert_same(found, evaluate(potential, graph, stress=True))


@pytest.mark.usefixtures("_captured")
def test_what_is_captured_depends_on_no_data(potential: Potential) -> None:
    """Tensors on the meta device have none: a size or a branch that needs some is an error."""
    graph = batch(potential)
    padded = pad_edges(graph, potential.cutoff, bucket_size(graph.num_edges))
    found = evaluate(copy.deepcopy(potential).to("meta"), padded.to("meta"), stress=True)
    assert found.forces is not None
    assert found.forces.shape == graph.positions.shape


def test_a_potential_on_a_cpu_is_refused(potential: Potential) -> None:
    with pytest.raises(ValueError, match=r"is on cpu; use evaluate\(\)"):
        CUDAGraphPredictor(potential)


@pytest.mark.gpu
@pytest.mark.filterwarnings("error:no CUDA graph")  # where nothing is captured it would evaluate, and be right
def test_a_replayed_step_equals_an_evaluated_one(potential: Potential) -> None:
    on_gpu = load("organic-xtb").cast(torch.float64).requires_grad_(False).cuda()
    predict = CUDAGraphPredictor(on_gpu)
    for seed in (0, 0, 1, 2):
        graph = batch(potential, seed)
        assert_same(predict(graph.to("cuda"), stress=True), evaluate(on_gpu, graph.to("cuda"), stress=True))
