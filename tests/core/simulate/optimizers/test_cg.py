"""Conjugate gradients: exact for quadratic energies, and to the minima that scipy's find."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from scipy.optimize import minimize

from atomsml.simulate.optimizers.cg import RISE, ConjugateGradients
from atomsml.simulate.optimizers.vector import Vector


def _vector(rows: torch.Tensor, systems: int) -> Vector:
    """So many systems of equal size."""
    batch = torch.arange(systems).repeat_interleave(len(rows) // systems)
    return Vector(rows, rows.new_zeros(systems, 0, 3), batch, torch.arange(systems))


@pytest.mark.parametrize("grouped", [False, True])
def test_a_quadratic_energy_takes_as_many_lines_as_it_has_variables(grouped: bool) -> None:
    """Two trials for each line, of which the second is exact; two systems as a group are one of twelve variables."""
    generator = torch.Generator().manual_seed(0)
    sizes = [12] if grouped else [6, 6]
    roots = [torch.randn(n, n, dtype=torch.float64, generator=generator) / n**0.5 for n in sizes]
    hessian = torch.block_diag(*[10 * (x @ x.mT + torch.eye(len(x))) for x in roots])
    variables = _vector(0.02 * torch.randn(4, 3, dtype=torch.float64, generator=generator), 2)
    if grouped:
        variables = Vector(variables.atoms, variables.cell, variables.batch, torch.zeros(2, dtype=torch.int64))
    cg = ConjugateGradients()
    memory = cg.start(variables)
    largest = []
    for _ in range(2 * max(sizes) + 1):
        forces = -(hessian @ variables.atoms.flatten()).reshape(4, 3)
        energy = -0.5 * (forces * variables.atoms).reshape(2, 6).sum(dim=1)
        energy = energy.sum().expand(2) if grouped else energy
        largest.append(forces.abs().max().item())
        variables = cg.step(memory, variables, variables.like(forces, variables.cell), energy)
    assert largest[-1] < 1e-8 * largest[0]
    assert largest[-4] > 1e-3 * largest[-1] / 1e-8  # and not with fewer


def _evaluate(molecules: list[Atoms]) -> tuple[torch.Tensor, torch.Tensor]:
    energies = torch.tensor([atoms.get_potential_energy() for atoms in molecules], dtype=torch.float64)
    return energies, torch.from_numpy(np.concatenate([atoms.get_forces() for atoms in molecules]))


def test_minima_are_those_of_scipy() -> None:
    """Two molecules side by side, each alone by scipy's conjugate gradients."""
    ours = [molecule("C2H6"), molecule("C2H6")]
    for i, atoms in enumerate(ours):
        atoms.rattle(0.05, seed=i)
    theirs = [atoms.copy() for atoms in ours]
    for atoms in (*ours, *theirs):
        atoms.calc = EMT()
    cg = ConjugateGradients()
    variables = _vector(torch.from_numpy(np.concatenate([atoms.positions for atoms in ours])), 2)
    memory = cg.start(variables)
    for _ in range(400):
        energies, forces = _evaluate(ours)
        if forces.abs().max() < 1e-3:
            break
        variables = cg.step(memory, variables, _vector(forces, 2), energies)
        for atoms, positions in zip(ours, variables.atoms.split(8), strict=True):
            atoms.positions = positions.numpy()
    assert forces.abs().max() < 1e-3

    def energy_and_gradient(x: np.ndarray, atoms: Atoms) -> tuple[float, np.ndarray]:
        atoms.positions = x.reshape(-1, 3)
        return atoms.get_potential_energy(), -atoms.get_forces().ravel()

    for atoms, energy in zip(theirs, energies, strict=True):
        options = {"gtol": 1e-3}
        found = minimize(energy_and_gradient, atoms.positions.ravel(), atoms, "CG", jac=True, options=options)
        assert found.success
        assert energy.item() == pytest.approx(found.fun, abs=1e-5)


def test_a_trial_that_leads_up_is_followed_by_a_shorter_one() -> None:
    """Walls of 5000 eV/A^2, far stiffer than assumed."""
    cg, x = ConjugateGradients(), torch.tensor([[0.1, 0.0, 0.0]], dtype=torch.float64)
    variables = _vector(x, 1)
    memory, energies = cg.start(variables), []
    for _ in range(12):
        x = variables.atoms
        energies.append((2500 * (x[0, 0] - 0.05) ** 2 + x[0, 0]).item())
        forces = torch.stack([-5000 * (x[0, 0] - 0.05) - 1, 0 * x[0, 0], 0 * x[0, 0]])[None]
        variables = cg.step(memory, variables, _vector(forces, 1), torch.tensor(energies[-1:], dtype=torch.float64))
    assert max(energies) > energies[0] + RISE  # it had to try
    assert variables.atoms[0, 0].item() == pytest.approx(0.05 - 1 / 5000, abs=1e-6)
