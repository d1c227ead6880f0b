"""The equations in torch: equal to the compiled sums, and differentiable twice."""

import pytest
import torch
from ase.build import molecule

from atomsml.dispersion import D3, FUNCTIONALS, Cutoffs
from atomsml.graph import AtomicGraph
from tests.core.dispersion.structures import crystals

CRYSTALS = crystals()
SHORT = Cutoffs(20.0, 14.0, 10.0)  # bohr


@pytest.mark.parametrize("three_body", [False, True])
@pytest.mark.parametrize("name", [*sorted(CRYSTALS), "molecule"])
def test_compiled_sums_are_the_equations(name, three_body):
    d3 = D3(FUNCTIONALS["pbe"], three_body, SHORT)
    graph = AtomicGraph.from_ase(CRYSTALS.get(name, molecule("CH3CONH2")))
    found = d3(graph)
    graph = graph.replace(positions=graph.positions.clone().requires_grad_())
    energies = d3.energies(graph)
    (gradient,) = torch.autograd.grad(energies.sum(), graph.positions)
    torch.testing.assert_close(found.atom_energies, energies.detach(), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.forces, -gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("three_body", [False, True])
def test_twice_differentiable_by_positions_and_cell(three_body):
    crystal, d3 = CRYSTALS["sheared"], D3(FUNCTIONALS["pbe"], three_body, Cutoffs(8.3, 8.3, 8.3))
    graph = AtomicGraph.from_ase(crystal)

    def energy(positions: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return d3.energies(graph.replace(positions=positions, cell=cell)).sum()

    inputs = graph.positions.clone().requires_grad_(), graph.cell.clone().requires_grad_()
    assert torch.autograd.gradcheck(energy, inputs, atol=1e-6)
    assert torch.autograd.gradgradcheck(energy, inputs, atol=1e-5)


def test_second_derivatives_are_finite_with_the_cutoffs_of_d3():
    """A single atom has no neighbours, and no NaN either."""
    for atoms in (CRYSTALS["argon"], molecule("C6H6"), molecule("H")):
        graph = AtomicGraph.from_ase(atoms)
        hessian = torch.autograd.functional.hessian(
            lambda x, graph=graph: D3.of("pbe").energies(graph.replace(positions=x)).sum(), graph.positions
        )
        assert torch.isfinite(hessian).all()
