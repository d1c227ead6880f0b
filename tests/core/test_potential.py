"""evaluate(): against finite differences, single systems and a Lennard-Jones sum written out in numpy."""

import itertools

import numpy as np
import pytest
import torch

from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, Prediction, evaluate


def make_graph(seed: int = 0, periodic: bool = True, atoms: int = 5) -> AtomicGraph:
    """Jittered lattice sites, about 2 A apart, of both elements of the pair potential."""
    rng = np.random.default_rng(seed)
    sites = np.array(list(itertools.product(range(2), repeat=3)))[:atoms]
    cell = np.array([[4.2, 0.0, 0.0], [0.5, 4.0, 0.0], [-0.4, 0.6, 4.4]])
    positions = (sites / 2) @ cell + rng.uniform(-0.15, 0.15, (atoms, 3))
    return AtomicGraph(
        positions=torch.tensor(positions),
        numbers=torch.tensor([1, 18] * 4)[:atoms],
        cell=torch.tensor(cell)[None] if periodic else torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.full((1, 3), periodic),
        batch=torch.zeros(atoms, dtype=torch.int64),
    )


def numpy_energy(potential: Potential, graph: AtomicGraph) -> float:
    """The pair sum over explicit images, no neighbour list."""
    positions, cell = graph.positions.numpy(), graph.cell[0].numpy()
    sigma = dict(zip(potential.elements, potential.sigma.tolist(), strict=True))
    z = graph.numbers.tolist()
    reach = 3 if graph.pbc.any() else 0
    total = sum(dict(zip(potential.elements, potential.references.tolist(), strict=True))[n] for n in z)
    for image in itertools.product(range(-reach, reach + 1), repeat=3):
        for i, j in itertools.product(range(len(z)), repeat=2):
            r = np.linalg.norm(positions[j] + np.array(image) @ cell - positions[i])
            if 0 < r < potential.cutoff:
                x = max(0.0, 4 * r / potential.cutoff - 3)
                s6 = ((sigma[z[i]] + sigma[z[j]]) / 2 / r) ** 6
                total += 2 * potential.config.epsilon * (s6**2 - s6) * (1 - x) ** 3 * (1 + 3 * x + 6 * x**2)
    return total


@pytest.mark.parametrize("periodic", [True, False])
def test_energy_is_the_written_out_pair_sum(pair_potential, periodic):
    graph = make_graph(periodic=periodic)
    prediction = evaluate(pair_potential, graph)
    assert prediction.energy.item() == pytest.approx(numpy_energy(pair_potential, graph), abs=1e-10)
    assert prediction.energy.item() == pytest.approx(prediction.atom_energies.sum().item(), abs=1e-12)


@pytest.mark.parametrize("periodic", [True, False])
def test_forces_are_minus_the_gradient(pair_potential, periodic):
    graph = make_graph(periodic=periodic)
    forces = evaluate(pair_potential, graph).forces
    h = 1e-5  # central differences: error h^2 E''' / 6, about 1e-9, and rounding 1e-16 * 60 eV / h = 1e-9
    for atom, axis in itertools.product(range(graph.num_atoms), range(3)):
        step = torch.zeros_like(graph.positions)
        step[atom, axis] = h
        plus, minus = (
            evaluate(pair_potential, graph.replace(positions=graph.positions + sign * step), forces=False).energy
            for sign in (1, -1)
        )
        assert -((plus - minus) / (2 * h)).item() == pytest.approx(forces[atom, axis].item(), abs=1e-7)


def test_stress_is_the_strain_gradient_per_volume(pair_potential):
    graph = make_graph()
    prediction = evaluate(pair_potential, graph, stress=True)
    volume = torch.linalg.det(graph.cell[0]).abs()
    h = 1e-5
    for i, j in itertools.product(range(3), repeat=2):
        energies = []
        for sign in (1, -1):
            deform = torch.eye(3, dtype=torch.float64)
            deform[i, j] += sign * h
            strained = graph.replace(positions=graph.positions @ deform, cell=graph.cell @ deform)
            energies.append(evaluate(pair_potential, strained, forces=False).energy)
        wanted = ((energies[0] - energies[1]) / (2 * h) / volume).item()
        assert prediction.stress[0, i, j].item() == pytest.approx(wanted, abs=1e-8)
    assert prediction.stress.abs().max() > 1e-3  # or the comparison would say nothing
    torch.testing.assert_close(prediction.forces, evaluate(pair_potential, graph).forces, rtol=0, atol=1e-12)


def test_stress_alone_needs_no_forces(pair_potential):
    graph = make_graph()
    prediction = evaluate(pair_potential, graph, forces=False, stress=True)
    assert prediction.forces is None
    torch.testing.assert_close(
        prediction.stress, evaluate(pair_potential, graph, stress=True).stress, rtol=0, atol=1e-14
    )


def test_no_volume_no_stress(pair_potential):
    boxed = make_graph().replace(pbc=torch.zeros(1, 3, dtype=torch.bool))  # a box that nothing repeats is no volume
    graph = AtomicGraph.from_list([make_graph(), make_graph(periodic=False), boxed])
    stress = evaluate(pair_potential, graph, stress=True).stress
    assert stress[0].isfinite().all()
    assert stress[1:].isnan().all()


def test_energy_only_builds_no_autograd_graph(pair_potential):
    modes = []
    pair_potential.register_forward_hook(lambda *_: modes.append(torch.is_grad_enabled()))
    prediction = evaluate(pair_potential, make_graph(), forces=False)
    assert modes == [False]
    assert not prediction.energy.requires_grad
    assert prediction.forces is None
    assert prediction.stress is None


@pytest.mark.parametrize("forces", [True, False])
def test_results_are_detached_unless_asked(pair_potential, forces):
    kept = evaluate(pair_potential, make_graph(), forces=forces, stress=forces, create_graph=True)
    cut = evaluate(pair_potential, make_graph(), forces=forces, stress=forces)
    for name in ("energy", "atom_energies", *(("forces", "stress") if forces else ())):
        assert getattr(kept, name).requires_grad
        assert not getattr(cut, name).requires_grad


def test_create_graph_gives_derivatives_of_forces_by_weights(pair_potential):
    graph, weight = make_graph(), pair_potential.sigma
    direction = torch.randn(graph.positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def projected(create_graph: bool) -> torch.Tensor:
        return (evaluate(pair_potential, graph, create_graph=create_graph).forces * direction).sum()

    (gradient,) = torch.autograd.grad(projected(create_graph=True), weight)
    for k in range(len(weight)):
        values = []
        for h in (1e-5, -1e-5):
            with torch.no_grad():
                weight[k] += h
                values.append(projected(create_graph=False))
                weight[k] -= h
        assert gradient[k].item() == pytest.approx(((values[0] - values[1]) / 2e-5).item(), rel=1e-6)


def test_a_batch_is_its_systems(pair_potential):
    graphs = [
        make_graph(0),
        make_graph(1, periodic=False, atoms=3),
        make_graph(2, periodic=False, atoms=1),
        make_graph(3),
    ]
    together = evaluate(pair_potential, AtomicGraph.from_list(graphs), stress=True)
    alone = [evaluate(pair_potential, graph, stress=True) for graph in graphs]
    for name in ("energy", "atom_energies", "forces", "stress"):
        wanted = torch.cat([getattr(prediction, name) for prediction in alone])
        torch.testing.assert_close(getattr(together, name), wanted, rtol=0, atol=1e-12, equal_nan=True)


def test_a_given_neighbour_list_is_used(pair_potential):
    graph = make_graph().with_neighbors(pair_potential.cutoff)
    none = graph.replace(edge_index=graph.edge_index[:, :0], cell_offsets=graph.cell_offsets[:0])
    prediction = evaluate(pair_potential, none, stress=True)
    references = pair_potential.references[pair_potential.species(graph.numbers)].sum()
    assert prediction.energy.item() == pytest.approx(references.item(), abs=1e-12)
    assert (prediction.forces == 0).all()
    assert (prediction.stress == 0).all()


def test_cast_keeps_references_precise(pair_potential):
    wanted = pair_potential.references.clone()
    pair_potential.cast(torch.float32)
    assert pair_potential.dtype == torch.float32
    assert pair_potential.references.dtype == torch.float64
    assert torch.equal(pair_potential.references, wanted)


def test_species_and_unknown_elements(pair_potential):
    assert pair_potential.species(torch.tensor([18, 1, 18])).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="does not know Au, U; it was made for H Ar"):
        pair_potential.species(torch.tensor([92, 1, 79]))


def test_a_prediction_prints_as_one_line_and_finds_quantities_by_name():
    charges, dipoles = torch.tensor([0.1, -0.1, 0.0]), torch.zeros(2, 3)
    prediction = Prediction(
        energy=torch.tensor([-1.5, -2.25]),
        atom_energies=torch.tensor([-1.0, -0.5, -2.25]),
        forces=torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        atom_data={"charges": charges},
        system_data={"dipole": dipoles},
    )
    assert str(prediction) == (
        "Prediction(2 systems, 3 atoms, energies -2.250 to -1.500 eV, largest force 5.0000 eV/A, charges, dipole)"
    )
    assert prediction["charges"] is charges
    assert prediction["energy"] is prediction.energy
    with pytest.raises(KeyError, match=r"no 'stress'; it has atom_energies, forces, charges, energy, dipole"):
        prediction["stress"]
    first, second = prediction.split([2, 1], [1, 1])
    assert (
        str(second) == "Prediction(1 system, 1 atom, energy -2.250000 eV, largest force 1.0000 eV/A, charges, dipole)"
    )
    assert first["charges"].tolist() == charges[:2].tolist()
    assert second["dipole"].shape == (1, 3)
    assert second.stress is None


def test_predictions_of_parts_are_joined_and_spread(pair_potential):
    graphs = [make_graph(seed, atoms=atoms) for seed, atoms in ((0, 5), (1, 3))]
    together = evaluate(pair_potential, AtomicGraph.from_list(graphs), stress=True)
    parts = together.split([5, 3], [1, 1])
    joined = Prediction.join(parts)
    for name in ("energy", "atom_energies", "forces", "stress"):
        assert torch.equal(joined[name], together[name])
    there = torch.tensor([False] * 5 + [True] * 3)
    spread = parts[1].spread(there, torch.tensor([False, True]))
    assert torch.equal(spread.forces[5:], parts[1].forces)
    assert torch.equal(spread.stress[1:], parts[1].stress)
    assert spread.forces[:5].isnan().all()
    assert spread.energy.isnan().tolist() == [True, False]
    bare = evaluate(pair_potential, graphs[0], forces=False)
    assert Prediction.join([parts[0], bare]).forces is None
