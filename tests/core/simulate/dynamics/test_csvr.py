"""Stochastic velocity rescaling against the exact law of its kinetic energy."""

import ase
import numpy as np
import pytest
import torch
from scipy import stats

from atomsml.potential import Prediction
from atomsml.simulate.dynamics.csvr import CSVR
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.testing.model_potentials import HarmonicWell
from atomsml.units import KB

TEMPERATURE = 300.0  # K


def no_forces(graph, forces=True, stress=False):
    zeros = torch.zeros_like(graph.positions)
    return Prediction(energy=zeros.new_zeros(graph.num_systems), atom_energies=zeros[:, 0], forces=zeros)


@pytest.mark.parametrize("atoms", [2, 5])
def test_kinetic_energy_of_an_ideal_gas_has_the_exact_transition_law(atoms):
    """2 K / kT after a time is (1 - c) times a noncentral chi-square number around c 2 K / ((1 - c) kT)."""
    gas = [ase.Atoms(f"He{atoms}", positions=np.zeros((atoms, 3)))] * 2000
    steps, timestep, thermostat_time = 5, 4.0, 25.0
    integrator = CSVR(timestep, 900.0, thermostat_time, seed=1)
    frames = md(gas, Model(no_forces), integrator, steps, steps, temperature=TEMPERATURE)
    kinetic = [frame.kinetic.numpy() for frame in frames]
    kt, kept = KB * 900.0, np.exp(-steps * timestep / thermostat_time)
    before, after = (2 * energy / kt for energy in kinetic)
    quantile = stats.ncx2(3 * atoms - 3, kept * before / (1 - kept)).cdf(after / (1 - kept))
    assert stats.kstest(quantile, "uniform").pvalue > 1e-3


def test_the_canonical_distribution_stays():
    """Of wells that start from it; rescaling alone would not bring harmonic modes there."""
    stiffness, kt, count = 5.0, KB * TEMPERATURE, 500
    rng = np.random.default_rng(0)
    wells = State.of(
        [ase.Atoms("CO", positions=rng.normal(size=(2, 3)) * (kt / stiffness) ** 0.5) for _ in range(count)]
    )
    wells.rest = torch.zeros_like(wells.rest)
    *_, frame = md(
        wells, Model(HarmonicWell(stiffness)), CSVR(1.0, TEMPERATURE, 10.0), 300, 300, temperature=TEMPERATURE
    )
    assert stats.kstest(frame.kinetic.numpy() / kt, stats.gamma(3).cdf).pvalue > 1e-3
    assert stats.kstest(frame.potential.numpy() / kt, stats.gamma(3).cdf).pvalue > 1e-3
    assert stats.kstest(frame.state.positions.numpy().ravel() * (stiffness / kt) ** 0.5, "norm").pvalue > 1e-3


def test_atoms_at_rest_are_refused():
    with pytest.raises(ValueError, match="give a temperature to start from"):
        next(md([ase.Atoms("He2", positions=[[0, 0, 0], [0, 0, 3]])], Model(no_forces), CSVR(1.0, 300.0), 1))
