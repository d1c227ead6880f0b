"""What every CPU program must do: `ProgramTests`, to be subclassed with a fixture `model`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from atomsml.codegen.checks import checked_indices
from atomsml.graph import AtomicGraph
from atomsml.neighbors import neighbor_list
from atomsml.potential import Potential, Prediction, evaluate

CUTOFF = 4.0


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


def shaken_crystal() -> AtomicGraph:
    crystal = bulk("C", "diamond", a=3.4, cubic=True)
    crystal.rattle(0.15, seed=0)
    return AtomicGraph.from_ase(crystal).with_neighbors(CUTOFF)


def assert_equal(ours: Prediction, exact: Prediction, tolerance: float) -> None:
    """Within `tolerance` of the largest entry, or of 0.1 where symmetry makes all of them vanish."""
    for name in ("energy", "atom_energies", "forces", "stress"):
        mine, other = getattr(ours, name), getattr(exact, name)
        if mine is not None or other is not None:
            largest = max(other.nan_to_num().abs().max().item(), 0.1)
            torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * largest, equal_nan=True, msg=name)


class ProgramTests:
    """The fixture `model` is a potential in float64 for H, C and O with a cutoff of 4 A, which has a program."""

    def test_it_is_the_function_of_the_model(self, model: Potential) -> None:
        """Slopes of radial functions deviate by 1e-8 of the largest; some hundred of them add up in a force."""
        graph = systems().with_neighbors(CUTOFF)
        assert model.program() is not None
        assert_equal(model.predictor()(graph, stress=True), evaluate(model, graph, stress=True), 1e-7)

    def test_in_float32_it_is_as_exact_as_autograd(self, model: Potential) -> None:
        """Both differ from float64 by some hundred roundings of 6e-8; references are added in float64."""
        graph, single = systems().with_neighbors(CUTOFF), copy.deepcopy(model).cast(torch.float32)
        assert_equal(single.predictor()(graph, stress=True), evaluate(model, graph, stress=True), 1e-5)

    def test_forces_are_the_slopes_of_its_energies(self, model: Potential) -> None:
        """Central differences of 1e-4 A are off by some 1e-8 of third derivatives."""
        program, graph = model.predictor(), systems().with_neighbors(CUTOFF)
        predicted = program(graph, stress=True)
        assert predicted.forces is not None
        for atom, axis in ((0, 0), (10, 2), (20, 1)):
            shift = torch.zeros_like(graph.positions)
            shift[atom, axis] = 1e-4
            ahead, behind = (program(graph.replace(positions=graph.positions + x)).energy for x in (shift, -shift))
            slope = (ahead - behind).sum() / 2e-4
            assert abs(slope + predicted.forces[atom, axis]) < 1e-6 * predicted.forces.abs().max()

    def test_no_index_is_wrong(self, model: Potential) -> None:
        graph = systems().with_neighbors(CUTOFF)
        with checked_indices():
            checked = model.predictor()(graph, stress=True)
        assert_equal(checked, model.predictor()(graph, stress=True), 1e-12)

    def test_edges_beyond_the_cutoff_do_not_count(self, model: Potential) -> None:
        program, graph = model.predictor(), systems()
        far, near = (program(graph.with_neighbors(reach), stress=True) for reach in (CUTOFF + 0.7, CUTOFF))
        assert_equal(far, near, 1e-12)

    def test_without_a_list_it_makes_one(self, model: Potential) -> None:
        program, graph = model.predictor(), systems()
        assert torch.equal(program(graph).energy, program(graph.with_neighbors(CUTOFF)).energy)

    def test_energies_alone_are_the_same_bits(self, model: Potential) -> None:
        program, graph = model.predictor(), systems().with_neighbors(CUTOFF)
        alone, together = program(graph, forces=False), program(graph, stress=True)
        assert alone.forces is None
        assert alone.stress is None
        assert torch.equal(alone.atom_energies, together.atom_energies)

    def test_a_plan_serves_moved_atoms_other_lists_and_other_systems(self, model: Potential) -> None:
        program, crystal = model.predictor(), shaken_crystal()
        generator = torch.Generator().manual_seed(0)
        shaken = crystal.positions + 0.1 * torch.randn(
            crystal.positions.shape, generator=generator, dtype=torch.float64
        )
        moved = crystal.replace(positions=shaken)  # the same list
        listed = moved.with_neighbors(CUTOFF)
        squeezed = listed.replace(positions=0.9 * shaken, cell=0.9 * listed.cell).with_neighbors(CUTOFF)  # more edges
        others = crystal.replace(numbers=torch.tensor([1, 8] * 4))  # of the same size
        alone = AtomicGraph.from_ase(Atoms("H")).with_neighbors(CUTOFF)  # nothing of the last one fits
        for graph in (crystal, moved, listed, squeezed, others, alone, crystal):
            assert_equal(program(graph, stress=True), evaluate(model, graph, stress=True), 1e-7)

    def test_a_list_changed_in_place_is_noticed(self, model: Potential) -> None:
        program, graph = model.predictor(), systems().with_neighbors(CUTOFF)
        program(graph)
        sender, offsets = graph.edge_index[0], graph.cell_offsets
        last = graph.edge_index[1] == graph.edge_index[1][-1]
        first, second = last.nonzero()[:2, 0].tolist()
        sender[first], offsets[first] = sender[second].clone(), offsets[second].clone()  # one neighbour counts twice
        assert_equal(program(graph), evaluate(model, graph), 1e-7)

    def test_the_same_edges_through_other_images_are_another_list(self, model: Potential) -> None:
        program, graph = model.predictor(), shaken_crystal()
        program(graph)
        others = graph.replace(cell_offsets=-graph.cell_offsets)
        assert_equal(program(others, stress=True), evaluate(model, others, stress=True), 1e-7)

    def test_threads_give_the_same_result_and_the_same_bits_each_time(
        self, model: Potential, two_threads: None
    ) -> None:
        crystal = bulk("C", "diamond", a=3.4, cubic=True) * (2, 2, 2)
        crystal.rattle(0.05, seed=0)
        graph = AtomicGraph.from_ase(crystal).with_neighbors(CUTOFF)
        first = model.predictor()(graph, stress=True)
        for _ in range(3):
            again = model.predictor()(graph, stress=True)
            assert torch.equal(first.forces, again.forces)  # type: ignore[arg-type]
            assert torch.equal(first.stress, again.stress)  # type: ignore[arg-type]
        assert_equal(first, evaluate(model, graph, stress=True), 1e-7)

    @pytest.fixture
    def two_threads(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(before)

    def test_two_threads_may_ask_at_the_same_time(self, model: Potential) -> None:
        program = model.predictor()
        names = ("CH3CH2OH", "H2O", "CO2", "CH4")
        graphs = [AtomicGraph.from_ase(molecule(name)).with_neighbors(CUTOFF) for name in names]
        expected = [program(graph).energy for graph in graphs]
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda graph: program(graph).energy, graphs * 20))
        assert all(torch.equal(a, b) for a, b in zip(found, expected * 20, strict=True))

    def test_later_training_does_not_change_it(self, model: Potential) -> None:
        graph, trained = systems().with_neighbors(CUTOFF), copy.deepcopy(model)
        program = trained.predictor()
        before = program(graph).energy
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter.mul_(1.1)
        assert torch.equal(program(graph).energy, before)
        assert not torch.allclose(trained.predictor()(graph).energy, before, rtol=1e-9)

    def test_positions_that_are_not_finite_give_results_that_are_not(self, model: Potential) -> None:
        graph = systems().with_neighbors(CUTOFF)
        positions = graph.positions.clone()
        positions[0, 0] = torch.nan
        assert model.predictor()(graph.replace(positions=positions)).energy[0].isnan()

    def test_no_atoms_have_no_energy(self, model: Potential) -> None:
        found = model.predictor()(AtomicGraph.from_ase(Atoms(cell=[4, 4, 4], pbc=True)), stress=True)
        assert found.energy.tolist() == [0.0]
        assert found.forces is not None
        assert found.forces.shape == (0, 3)

    def test_inference_mode(self, model: Potential) -> None:
        """Its tensors do not tell whether they were changed."""
        program, expected = model.predictor(), model.predictor()(systems(), stress=True)
        with torch.inference_mode():
            graph = systems().with_neighbors(CUTOFF)
            assert_equal(program(graph, stress=True), expected, 1e-12)
            graph.cell_offsets.neg_()
            assert not torch.allclose(program(graph).energy, expected.energy, rtol=1e-9)

    def test_an_unknown_element_is_refused_by_name(self, model: Potential) -> None:
        with pytest.raises(ValueError, match="does not know He"):
            model.predictor()(AtomicGraph.from_ase(Atoms("He")))

    def test_exact_radial_functions_are_those_of_autograd(self, model: Potential) -> None:
        graph = systems().with_neighbors(CUTOFF)
        assert torch.equal(model.predictor(exact=True)(graph).energy, evaluate(model, graph).energy)

    def test_slabs_need_no_third_cell_vector(self, model: Potential) -> None:
        slab = systems().to_list()[2]
        edge_index, offsets = neighbor_list(slab.positions, slab.cell, slab.pbc, CUTOFF, slab.batch)
        cell = slab.cell.clone()
        cell[0, 2] = 0.0
        graph = slab.replace(edge_index=edge_index, cell_offsets=offsets, cell=cell)
        assert_equal(model.predictor()(graph), evaluate(model, graph), 1e-7)
