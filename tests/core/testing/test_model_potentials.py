"""Forces and stress of the model potentials by finite differences, and known values."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from atomsml.graph import AtomicGraph
from atomsml.testing.model_potentials import (
    AskingCalculator,
    HarmonicCrystal,
    HarmonicWell,
    IdealGas,
    LennardJones,
)

PERFECT = bulk("Ar", "fcc", a=5.2, cubic=True) * (2, 2, 2)
HARMONIC = HarmonicCrystal(torch.from_numpy(PERFECT.get_scaled_positions()), 0.3, 0.02, 1200.0)


def crystal() -> AtomicGraph:
    atoms = PERFECT.copy()
    atoms.rattle(0.1, seed=1)
    return AtomicGraph.from_ase(atoms)


def test_a_dimer_has_the_energy_of_the_formula():
    argon = LennardJones(onset=8.0, cutoff=9.0)
    dimer = molecule("N2")
    dimer.positions = [[0, 0, 0], [0, 0, 2 ** (1 / 6) * argon.sigma]]
    found = argon(AtomicGraph.from_ase(dimer))
    assert found.energy.item() == pytest.approx(-argon.epsilon, rel=1e-12)
    assert found.forces.abs().max() < 1e-15


@pytest.mark.parametrize(
    "potential", [LennardJones(), LennardJones(onset=3.5, cutoff=4.5), HarmonicWell(2.0), HARMONIC]
)
def test_forces_are_minus_the_slope(potential):
    graph, h = crystal(), 1e-5
    forces = potential(graph).forces
    for atom, axis in ((0, 0), (5, 1), (17, 2)):
        shift = torch.zeros_like(graph.positions)
        shift[atom, axis] = h
        ahead, behind = (potential(graph.replace(positions=graph.positions + s)).energy for s in (shift, -shift))
        assert forces[atom, axis].item() == pytest.approx(-(ahead - behind).item() / (2 * h), rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("potential", [LennardJones(), HARMONIC, IdealGas()])
def test_stress_is_the_slope_by_strain(potential):
    graph, h = crystal(), 1e-5
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


def test_batches_of_harmonic_crystals_are_the_single_ones():
    graphs = [crystal(), crystal().replace(positions=crystal().positions * 1.01)]
    both = HARMONIC(AtomicGraph.from_list(graphs), stress=True)
    for i, graph in enumerate(graphs):
        alone = HARMONIC(graph, stress=True)
        assert both.energy[i].item() == pytest.approx(alone.energy.item(), rel=1e-12)
        assert torch.allclose(both.stress[i], alone.stress[0], atol=1e-14)


@pytest.mark.parametrize("cutoff", [None, 8.5])
def test_ase_asks_a_predictor(cutoff):
    atoms: ase.Atoms = crystal().to_ase()
    atoms.calc = AskingCalculator(LennardJones(), cutoff)
    found = LennardJones()(crystal(), stress=True)
    assert atoms.get_potential_energy() == pytest.approx(found.energy.item(), rel=1e-12)
    assert atoms.get_forces() == pytest.approx(found.forces.numpy(), abs=1e-12)
    assert atoms.get_stress(voigt=False) == pytest.approx(found.stress[0].numpy(), abs=1e-14)
    assert np.abs(atoms.get_stress()).max() > 1e-4
