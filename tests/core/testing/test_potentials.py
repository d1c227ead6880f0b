"""PotentialTests must pass a right potential and catch, each by its own test, the ways in which one can be wrong."""

import pytest
import torch
from torch.autograd.function import once_differentiable

from atomsml.graph import AtomicGraph
from atomsml.potential import Potential
from atomsml.potentials import POTENTIALS
from atomsml.testing import PotentialTests


@pytest.fixture
def registered(pair_potential, monkeypatch):
    monkeypatch.setitem(POTENTIALS, "pair", type(pair_potential))
    return pair_potential


class TestSmoothLennardJones(PotentialTests):
    @pytest.fixture
    def potential(self, registered):
        return registered


def at_centres(graph: AtomicGraph, values: torch.Tensor) -> torch.Tensor:
    """Sum values (edges, ...) over the neighbours of every atom."""
    return values.new_zeros(graph.num_atoms, *values.shape[1:]).index_add(0, graph.edge_index[1], values)


def not_rotation_invariant(right, graph):
    return right(graph) + 1e-4 * at_centres(graph, graph.edge_vectors()[:, 0] ** 2)


def not_inversion_invariant(right, graph):
    vectors = graph.edge_vectors()
    r = vectors.norm(dim=1, keepdim=True)
    a, b, c = (at_centres(graph, vectors * (-r / width).exp()) for width in (1.0, 2.0, 4.0))
    return right(graph) + torch.linalg.cross(a, b).mul(c).sum(dim=1)


def depends_on_the_order(right, graph):
    return right(graph) * torch.linspace(1.0, 1.1, graph.num_atoms, dtype=graph.dtype)


def depends_on_where_atoms_are(right, graph):
    return right(graph) + 1e-4 * graph.positions.norm(dim=1)


def is_not_extensive(right, graph):
    return right(graph) * graph.atoms_per_system[graph.batch].to(graph.dtype).pow(0.01)


def mixes_systems(right, graph):
    return right(graph) + 1e-3 * graph.num_systems


def loses_gradients_of_positions(right, graph):
    outer = torch.arange(graph.num_atoms, device=graph.device)[:, None] == 0
    return right(graph.replace(positions=torch.where(outer, graph.positions.detach(), graph.positions)))


def loses_gradients_of_the_cell(right, graph):
    return right(graph.replace(cell=graph.cell.detach()))


def energy_jumps_at_the_cutoff(right, graph):
    return right(graph) + at_centres(graph, 1e-3 * torch.ones(graph.num_edges, dtype=graph.dtype))


def force_jumps_at_the_cutoff(right, graph):
    return right(graph) + at_centres(graph, 1e-2 * (right.cutoff - graph.edge_vectors().norm(dim=1)))


def shifts_isolated_atoms(right, graph):
    return right(graph) + 1e-3


def knows_every_element(right, graph):
    known = torch.tensor(right.elements, device=graph.device)
    nearest = (graph.numbers[:, None] - known).abs().argmin(dim=1)
    return right(graph.replace(numbers=known[nearest]))


def cancels_in_float32(right, graph):
    large = torch.tensor(1e5, dtype=right.dtype)
    return ((right(graph).to(right.dtype) + large) - large).to(graph.dtype)


def answers_in_the_wrong_type(right, graph):
    return right(graph).to(right.dtype)


def stays_on_the_cpu(right, graph):
    return right(graph) + torch.ones(graph.num_atoms, dtype=graph.dtype)


def asks_numpy(right, graph):
    return right(graph) * len(set(graph.numbers.numpy()))


class Square(torch.autograd.Function):
    """x**2, right to first order only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class WrongSquare(Square):
    """x**2 whose first derivative forgets that it depends on x."""

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0].detach() * gradient


def refuses_second_derivatives(right, graph):
    return Square.apply(graph.positions).sum(dim=1)


def has_wrong_second_derivatives(right, graph):
    return right(graph) + WrongSquare.apply(graph.positions).sum(dim=1)


@pytest.mark.parametrize(
    ("test", "wrong", "message"),
    [
        ("rotation", not_rotation_invariant, "energy of a rotated crystal: off by"),
        ("inversion", not_inversion_invariant, "energy of an inverted crystal: off by"),
        ("permutation", depends_on_the_order, "atom energies of a permuted crystal: off by"),
        ("lattice_translation", depends_on_where_atoms_are, "a crystal with atoms in other cells: off by"),
        ("supercell", is_not_extensive, "energy of a 2x1x3 supercell: off by"),
        ("batch_equals_singles", mixes_systems, "atom energies of a batch: off by"),
        ("forces_by_finite_differences", loses_gradients_of_positions, "forces of a crystal along a line: off by"),
        ("stress_by_finite_differences", loses_gradients_of_the_cell, "stress along a strain: off by"),
        ("smooth_at_the_cutoff", energy_jumps_at_the_cutoff, "the energy jumps at the cutoff by"),
        ("smooth_at_the_cutoff", force_jumps_at_the_cutoff, "at the cutoff"),
        ("isolated_atom_is_its_reference", shifts_isolated_atoms, "energy of one atom 1: off by"),
        ("unknown_element_is_refused", knows_every_element, "atomic number 2 is not in potential.elements but was"),
        ("float32_is_close_to_float64", cancels_in_float32, "float32 atom energies of a crystal: off by"),
        ("float32_is_close_to_float64", answers_in_the_wrong_type, "atom energies of a torch.float64 graph are"),
        (
            "another_device",
            stays_on_the_cpu,
            "a crystal cannot be computed on cuda:0: Expected all tensors to be",
        ),
        ("another_device", asks_numpy, "a crystal cannot be computed on cuda:0: can't convert"),
        ("derivatives_of_forces", refuses_second_derivatives, "forces cannot be differentiated again"),
        ("derivatives_of_forces", has_wrong_second_derivatives, "derivative of forces by positions: off by"),
    ],
)
def test_what_is_wrong_is_caught(pair_potential, test, wrong, message):
    with pytest.raises(AssertionError, match=message):
        getattr(PotentialTests(), f"test_{test}")(Spoilt(pair_potential, wrong))


class Spoilt(Potential):
    def __init__(self, right, wrong):
        super().__init__(right.config)
        self.right, self.wrong, self.references = right, wrong, right.references

    def forward(self, graph):
        return self.wrong(self.right, graph)


def test_weights_that_are_not_saved_are_caught(pair_potential, monkeypatch, tmp_path):
    class Forgetful(type(pair_potential)):
        def __init__(self, config):
            super().__init__(config)
            self.scale = torch.rand(1, dtype=torch.float64)  # neither parameter nor buffer

        def forward(self, graph):
            return super().forward(graph) * self.scale

    monkeypatch.setitem(POTENTIALS, "forgetful", Forgetful)
    potential = Forgetful(pair_potential.config).cast(torch.float64)
    with pytest.raises(AssertionError, match="atom energies of a crystal after save and load: off by"):
        PotentialTests().test_save_and_load(potential, tmp_path)
