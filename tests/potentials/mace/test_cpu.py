"""The CPU program of MACE against the same model by autograd."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import chemical_symbols

from atomsml.graph import AtomicGraph
from atomsml.neighbors import neighbor_list
from atomsml.potential import Prediction, evaluate
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.potentials.mace.cpu import MACEOnCPU
from atomsml.programs import growing_tables

SMALL: dict[str, Any] = {"elements": (1, 6, 8), "cutoff": 4.0, "channels": 16, "avg_num_neighbors": 8.0, "scale": 0.7}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"shift": -0.3},
    "scalar features": {"hidden_lmax": 0},
    "degree 2 features": {"hidden_lmax": 2, "lmax": 2},
    "degree 4 harmonics": {"lmax": 4, "hidden_lmax": 0, "channels": 4},
    "few channels": {"channels": 10},
    "one layer": {"num_layers": 1},
    "three layers": {"num_layers": 3, "lmax": 2},
    "pairs only": {"correlation": 1, "lmax": 1, "hidden_lmax": 0},
    "MACE-OFF23": {"residual_first": False},
    "MPA-0": {"residual_first": False, "density_normalization": True, "distance_transform": "agnesi", "zbl": True},
    "short-range core": {"zbl": True, "scale_zbl": False, "inner_cutoff": 1.2},
    "0b": {"density_normalization": True, "distance_transform": "agnesi"},
}


def make(dtype: torch.dtype = torch.float64, **options: Any) -> MACE:
    torch.manual_seed(0)
    model = MACE(MACEConfig(**{**SMALL, **options})).cast(dtype)
    model.references = torch.linspace(-13.0, -2041.0, len(model.elements), dtype=torch.float64)
    return model.requires_grad_(False)


def systems() -> AtomicGraph:
    """A molecule, a strained crystal with many neighbours, a slab, and an atom alone."""
    ethanol = molecule("CH3CH2OH")
    crystal = bulk("C", "diamond", a=3.3, cubic=True)
    crystal.numbers[::3] = 8
    slab = bulk("C", "fcc", a=3.0) * (2, 1, 1)
    slab.pbc = [True, True, False]
    atoms = [ethanol, crystal * (2, 1, 1), slab, Atoms("H")]
    for i, each in enumerate(atoms):
        each.rattle(0.05, seed=i)
    return AtomicGraph.from_list([AtomicGraph.from_ase(each) for each in atoms])


def assert_equal(ours: Prediction, exact: Prediction, tolerance: float) -> None:
    """Within `tolerance` of the largest entry, or of 0.1 where symmetry makes all of them vanish."""
    for name in ("energy", "atom_energies", "forces", "stress"):
        mine, other = getattr(ours, name), getattr(exact, name)
        if mine is not None or other is not None:
            largest = max(other.nan_to_num().abs().max().item(), 0.1)
            torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * largest, equal_nan=True, msg=name)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_it_is_the_function_of_the_model(options: dict[str, Any]) -> None:
    """Slopes of radial functions deviate by 1e-8 of the largest; some hundred of them add up in a force."""
    model, graph = make(**options), systems().with_neighbors(4.0)
    assert_equal(MACEOnCPU(model)(graph, stress=True), evaluate(model, graph, stress=True), 1e-7)


def test_in_float32_it_is_as_exact_as_autograd() -> None:
    """Both differ from float64 by some hundred roundings of 6e-8; references are added in float64."""
    model, graph = make(torch.float32), systems().with_neighbors(4.0)
    assert_equal(model.predictor()(graph, stress=True), evaluate(make(), graph, stress=True), 1e-5)


def test_edges_beyond_the_cutoff_do_not_count() -> None:
    program, graph = MACEOnCPU(make()), systems()
    assert_equal(
        program(graph.with_neighbors(4.7), stress=True), program(graph.with_neighbors(4.0), stress=True), 1e-12
    )


def test_without_a_list_it_makes_one() -> None:
    program, graph = MACEOnCPU(make()), systems()
    assert torch.equal(program(graph).energy, program(graph.with_neighbors(4.0)).energy)


def test_energies_alone_are_the_same_bits() -> None:
    program, graph = MACEOnCPU(make()), systems().with_neighbors(4.0)
    alone, together = program(graph, forces=False), program(graph, stress=True)
    assert alone.forces is None
    assert alone.stress is None
    assert torch.equal(alone.atom_energies, together.atom_energies)


def test_a_plan_serves_moved_atoms_other_lists_and_other_systems() -> None:
    model, program = make(), MACEOnCPU(make())
    crystal = AtomicGraph.from_ase(bulk("C", "diamond", a=3.4, cubic=True)).with_neighbors(4.0)
    generator = torch.Generator().manual_seed(0)
    shaken = crystal.positions + 0.1 * torch.randn(crystal.positions.shape, generator=generator, dtype=torch.float64)
    moved = crystal.replace(positions=shaken)  # the same list
    listed = moved.with_neighbors(4.0)
    squeezed = listed.replace(positions=0.9 * shaken, cell=0.9 * listed.cell).with_neighbors(4.0)  # many more edges
    others = crystal.replace(numbers=torch.tensor([1, 8] * 4))  # of the same size
    alone = AtomicGraph.from_ase(Atoms("H")).with_neighbors(4.0)  # nothing of the last one fits
    for graph in (crystal, moved, listed, squeezed, others, alone, crystal):
        assert_equal(program(graph, stress=True), evaluate(model, graph, stress=True), 1e-7)


def test_a_list_changed_in_place_is_noticed() -> None:
    model, program, graph = make(), MACEOnCPU(make()), systems().with_neighbors(4.0)
    program(graph)
    assert graph.edge_index is not None
    assert graph.cell_offsets is not None
    sender, offsets = graph.edge_index[0], graph.cell_offsets
    last = graph.edge_index[1] == graph.edge_index[1][-1]
    first, second = last.nonzero()[:2, 0].tolist()
    sender[first], offsets[first] = sender[second].clone(), offsets[second].clone()  # one neighbour counts twice
    assert_equal(program(graph), evaluate(model, graph), 1e-7)


def test_the_same_edges_through_other_images_are_another_list() -> None:
    model, program = make(), MACEOnCPU(make())
    crystal = bulk("C", "diamond", a=3.4, cubic=True)
    crystal.rattle(0.05, seed=0)
    graph = AtomicGraph.from_ase(crystal).with_neighbors(4.0)
    program(graph)
    assert graph.cell_offsets is not None
    others = graph.replace(cell_offsets=-graph.cell_offsets)
    assert_equal(program(others, stress=True), evaluate(model, others, stress=True), 1e-7)


def test_threads_give_the_same_result_and_the_same_bits_each_time(two_threads: None) -> None:
    model = make()
    graph = AtomicGraph.from_ase(bulk("C", "diamond", a=3.4, cubic=True) * (2, 2, 2)).with_neighbors(4.0)
    program = MACEOnCPU(model)
    first = program(graph, stress=True)
    for _ in range(3):
        again = MACEOnCPU(model)(graph, stress=True)
        assert torch.equal(first.forces, again.forces)
        assert torch.equal(first.stress, again.stress)
    assert_equal(first, evaluate(model, graph, stress=True), 1e-7)


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_two_threads_may_ask_at_the_same_time() -> None:
    program = MACEOnCPU(make())
    graphs = [AtomicGraph.from_ase(molecule(name)).with_neighbors(4.0) for name in ("CH3CH2OH", "H2O", "CO2", "CH4")]
    expected = [program(graph).energy for graph in graphs]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda graph: program(graph).energy, graphs * 20))
    assert all(torch.equal(a, b) for a, b in zip(found, expected * 20, strict=True))


def stream(elements: tuple[int, ...], count: int) -> list[AtomicGraph]:
    """Small crystals of two elements each, of different sizes."""
    pairs = list(itertools.combinations(elements, 2))[:count]
    crystals = [bulk(chemical_symbols[a], "fcc", a=3.2, cubic=True) * (1 + a % 3, 1, 1) for a, _ in pairs]
    for i, (crystal, (_, other)) in enumerate(zip(crystals, pairs, strict=True)):
        crystal.numbers[1::3] = other
        crystal.rattle(0.1, seed=i)
    return [AtomicGraph.from_ase(crystal).with_neighbors(4.0) for crystal in crystals]


QUICK: dict[str, Any] = {"lmax": 1, "hidden_lmax": 0, "radial_mlp": (8,), "elements": tuple(range(5, 11))}


@pytest.mark.parametrize("options", [VARIANTS["plain"], VARIANTS["MPA-0"]], ids=["plain", "MPA-0"])
def test_equal_structures_give_equal_bits_whatever_came_before(options: dict[str, Any]) -> None:
    model = make(torch.float32, **options, **QUICK)
    graphs = stream(model.elements, 6)
    program = MACEOnCPU(model)
    for graph in (*graphs, graphs[0]):
        found, alone = program(graph, stress=True), MACEOnCPU(model)(graph, stress=True)
        assert torch.equal(found.atom_energies, alone.atom_energies)
        assert torch.equal(found.forces, alone.forces)
        assert torch.equal(found.stress, alone.stress)


def test_memory_for_tables_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for the kinds of two elements, or a few more; what was forgotten is made again."""
    model = make(torch.float32, **VARIANTS["MPA-0"], **QUICK)
    graphs = stream(model.elements, 8)
    expected = [MACEOnCPU(model)(graph).energy for graph in graphs]
    tables = MACEOnCPU(model).weights((5,)).tables.radial
    most = 5 * max(shelf.rows.values[:, : shelf.rows_each].nbytes for shelf in tables)
    monkeypatch.setattr(growing_tables, "MOST_BYTES", most)
    program, places = MACEOnCPU(model), set()
    for graph, energy in zip(graphs, expected, strict=True):
        assert torch.equal(program(graph).energy, energy)
        for shelf in program.weights(tuple(graph.numbers.unique().tolist())).tables.radial:
            assert shelf.rows.values.nbytes <= most
            places.add(shelf.rows.values.data_ptr())
    assert len(places) > 2  # of two layers: they began anew


def test_memory_for_atoms_is_given_back() -> None:
    program = MACEOnCPU(make())
    small, large = bulk("C", "fcc", a=3.2, cubic=True), bulk("C", "fcc", a=3.2, cubic=True) * (8, 8, 5)
    for atoms, most in ((large, 2000), (small, 10), (large, 2000)):
        program(AtomicGraph.from_ase(atoms).with_neighbors(2.5))
        ((_, plan),) = program._idle
        assert len(atoms) <= plan.sizes.atoms < most


def test_later_training_does_not_change_it() -> None:
    model, graph = make(), systems().with_neighbors(4.0)
    program = model.predictor()
    before = program(graph).energy
    with torch.no_grad():
        model.embedding.mul_(1.5)
    assert torch.equal(program(graph).energy, before)
    assert not torch.allclose(model.predictor()(graph).energy, before)


def test_positions_that_are_not_finite_give_results_that_are_not() -> None:
    graph = systems().with_neighbors(4.0)
    positions = graph.positions.clone()
    positions[0, 0] = torch.nan
    assert MACEOnCPU(make())(graph.replace(positions=positions)).energy[0].isnan()


def test_no_atoms_have_no_energy() -> None:
    graph = AtomicGraph.from_ase(Atoms(cell=[4, 4, 4], pbc=True))
    found = MACEOnCPU(make())(graph, stress=True)
    assert found.energy.tolist() == [0.0]
    assert found.forces is not None
    assert found.forces.shape == (0, 3)


def test_inference_mode() -> None:
    """Its tensors do not tell whether they were changed."""
    program, expected = MACEOnCPU(make()), MACEOnCPU(make())(systems(), stress=True)
    with torch.inference_mode():
        graph = systems().with_neighbors(4.0)
        assert_equal(program(graph, stress=True), expected, 1e-12)
        assert graph.cell_offsets is not None
        graph.cell_offsets.neg_()
        assert not torch.allclose(program(graph).energy, expected.energy)


def test_an_unknown_element_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="does not know He"):
        MACEOnCPU(make())(AtomicGraph.from_ase(Atoms("He")))


def test_exact_radial_functions_are_those_of_autograd() -> None:
    model, graph = make(), systems().with_neighbors(4.0)
    assert torch.equal(model.predictor(exact=True)(graph).energy, evaluate(model, graph).energy)


def test_slabs_need_no_third_cell_vector() -> None:
    slab = systems().to_list()[2]
    edge_index, offsets = neighbor_list(slab.positions, slab.cell, slab.pbc, 4.0, slab.batch)
    cell = slab.cell.clone()
    cell[0, 2] = 0.0
    graph = slab.replace(edge_index=edge_index, cell_offsets=offsets, cell=cell)
    assert_equal(MACEOnCPU(make())(graph), evaluate(make(), graph), 1e-7)
