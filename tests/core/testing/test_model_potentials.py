"""Forces and stress of the model potentials by finite differences, and known values."""

import pytest
import torch
from ase.build import bulk, molecule

from atomsml.graph import AtomicGraph
from atomsml.testing.model_potentials import HarmonicWell, LennardJones


def crystal() -> AtomicGraph:
    atoms = bulk("Ar", "fcc", a=5.2, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    return AtomicGraph.from_ase(atoms)


def test_a_dimer_has_the_energy_of_the_formula():
    argon = LennardJones(onset=8.0, cutoff=9.0)
    dimer = molecule("N2")
    dimer.positions = [[0, 0, 0], [0, 0, 2 ** (1 / 6) * argon.sigma]]
    found = argon(AtomicGraph.from_ase(dimer))
    assert found.energy.item() == pytest.approx(-argon.epsilon, rel=1e-12)
    assert found.forces.abs().max() < 1e-15


@pytest.mark.parametrize("potential", [LennardJones(), LennardJones(onset=3.5, cutoff=4.5), HarmonicWell(2.0)])
def test_forces_are_minus_the_slope(potential):
    graph, h = crystal(), 1e-5
    forces = potential(graph).forces
    for atom, axis in ((0, 0), (5, 1), (17, 2)):
        shift = torch.zeros_like(graph.positions)
        shift[atom, axis] = h
        ahead, behind = (potential(graph.replace(positions=graph.positions + s)).energy for s in (shift, -shift))
        assert forces[atom, axis].item() == pytest.approx(-(ahead - behind).item() / (2 * h), rel=1e-7, abs=1e-8)


def test_stress_is_the_slope_by_strain():
    graph, potential, h = crystal(), LennardJones(), 1e-5
    stress = potential(graph, stress=True).stress[0]
    volume = graph.cell[0].det()
    for i, j in ((0, 0), (1, 2), (2, 2)):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[i, j] += h / 2
        strain[j, i] += h / 2
        energies = []
        for sign in (1, -1):
            f = torch.eye(3, dtype=torch.float64) + sign * strain
            energies.append(potential(graph.replace(positions=graph.positions @ f, cell=graph.cell @ f)).energy)
        assert stress[i, j].item() == pytest.approx(((energies[0] - energies[1]) / (2 * h * volume)).item(), abs=1e-9)
