"""L-BFGS beside ASE's, step for step; and what it does where energies rise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT

from atomsml.simulate.optimizers.lbfgs import LBFGS, RISE
from atomsml.simulate.optimizers.vector import Vector
from tests.core.simulate.optimizers.scaled_lbfgs import ScaledLBFGS


def _vector(rows: torch.Tensor, systems: int) -> Vector:
    """So many systems of equal size."""
    batch = torch.arange(systems).repeat_interleave(len(rows) // systems)
    return Vector(rows, rows.new_zeros(systems, 0, 3), batch, torch.arange(systems))


def test_the_steps_are_those_of_ase() -> None:
    """As long as curvatures are positive and no energy rises: two molecules side by side."""
    ours = [molecule("C2H6"), molecule("C2H6")]
    for i, atoms in enumerate(ours):
        atoms.rattle(0.05, seed=i)
    theirs = [atoms.copy() for atoms in ours]
    for atoms in (*ours, *theirs):
        atoms.calc = EMT()
    dynamics = [ScaledLBFGS(atoms, logfile=None) for atoms in theirs]
    lbfgs = LBFGS()
    variables = _vector(torch.from_numpy(np.concatenate([atoms.positions for atoms in ours])), 2)
    memory = lbfgs.start(variables)
    for _ in range(12):
        energy = torch.tensor([atoms.get_potential_energy() for atoms in ours], dtype=torch.float64)
        forces = _vector(torch.from_numpy(np.concatenate([atoms.get_forces() for atoms in ours])), 2)
        variables = lbfgs.step(memory, variables, forces, energy)
        for atoms, positions in zip(ours, variables.atoms.split(8), strict=True):
            atoms.positions = positions.numpy()
        for each in dynamics:
            each.step()
        for mine, atoms in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.positions, atoms.positions, rtol=0, atol=1e-8)
    assert memory.rejected.tolist() == [0, 0]
    assert all(rho > 0 for each in dynamics for rho in each.state.rho)


def _minimise(
    energy_of: Callable[[torch.Tensor], torch.Tensor], start: list[float], steps: int
) -> tuple[list[float], list[float]]:
    """Energies and places x of one atom on the way."""
    lbfgs = LBFGS()
    variables = _vector(torch.tensor([[*start, 0.0, 0.0]], dtype=torch.float64), 1)
    memory, energies, places = lbfgs.start(variables), [], []
    for _ in range(steps):
        x = variables.atoms.clone().requires_grad_()
        energy = energy_of(x)
        (gradient,) = torch.autograd.grad(energy, x)
        energies.append(energy.item())
        places.append(x[0, 0].item())
        variables = lbfgs.step(memory, variables, _vector(-gradient, 1), energy.detach()[None])
    return energies, places


def test_a_step_that_leads_up_is_taken_back() -> None:
    """A wall 0.05 A away that is far stiffer than assumed: 5000 eV/A^2, so that a step of F / 70 flies past it."""
    energies, places = _minimise(lambda x: 2500 * (x[0, 0] - 0.05) ** 2 + x[0, 0], [0.1], 12)
    assert max(energies) > energies[0] + RISE  # it had to try
    risen = [i for i in range(1, 12) if energies[i] > min(energies[:i]) + RISE]
    for i in risen[:-1]:
        assert abs(places[i + 1] - places[i - 1]) < abs(places[i] - places[i - 1])  # shorter, from where it was
    assert places[-1] == pytest.approx(0.05 - 1 / 5000, abs=1e-6)


def test_groups_are_one_problem() -> None:
    """Two systems of a group take the steps that one system of all their atoms takes."""
    stiffness = torch.tensor([30.0, 90.0, 10.0, 55.0], dtype=torch.float64)[:, None]
    place = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = _vector(place, 1)
    two = _vector(place, 2)
    two = Vector(two.atoms, two.cell, two.batch, torch.zeros(2, dtype=torch.int64))
    found = []
    for variables in (one, two):
        lbfgs = LBFGS()
        memory = lbfgs.start(variables)
        for _ in range(30):
            energy = (0.5 * stiffness * variables.atoms.square()).sum().expand(len(variables.cell))
            forces = variables.like(-stiffness * variables.atoms, variables.cell)
            variables = lbfgs.step(memory, variables, forces, energy)
        found.append(variables.atoms)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)
    assert found[0].abs().max() < 1e-3
