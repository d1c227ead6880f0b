"""Langevin dynamics against the equation that it integrates, and against statistical mechanics."""

import ase
import numpy as np
import pytest
import torch
from scipy import stats

from atomsml.potential import Prediction
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.testing.model_potentials import HarmonicWell
from atomsml.units import KB

TEMPERATURE = 300.0  # K


def no_forces(graph, forces=True, stress=False):
    zeros = torch.zeros_like(graph.positions)
    return Prediction(energy=zeros.new_zeros(graph.num_systems), atom_energies=zeros[:, 0], forces=zeros)


@pytest.mark.parametrize(("thermostat_time", "timestep"), [(20.0, 1.0), (50.0, 2.0)])
def test_momenta_are_forgotten_as_the_equation_says(thermostat_time, timestep):
    """<p(0) p(t)> = m kB T exp(-t / tau) at any mass; 3000 products scatter by sqrt((1 + exp(-2 t / tau)) / 3000)."""
    atoms = ase.Atoms("H1000Ar1000", positions=np.zeros((2000, 3)))
    roots = torch.from_numpy(atoms.get_masses() / (KB * TEMPERATURE)).sqrt()[:, None]
    steps = round(2 * thermostat_time / timestep)
    integrator = Langevin(timestep, TEMPERATURE, thermostat_time, seed=1)
    frames = md([atoms], Model(no_forces), integrator, steps, temperature=TEMPERATURE)
    momenta = np.array([(roots * frame.state.velocities).numpy().reshape(2, 3000) for frame in frames])
    correlation = (momenta[0] * momenta).mean(axis=-1)  # (frames, elements)
    expected = np.exp(-timestep * np.arange(steps + 1) / thermostat_time)
    error = np.sqrt((1 + expected**2) / 3000)
    assert (np.abs(correlation - expected[:, None]) < 5 * error[:, None]).all()
    # the stationary distribution: variances of 1, with a relative error of sqrt(2 / 3000)
    np.testing.assert_allclose(momenta[-1].var(axis=-1), 1.0, atol=5 * np.sqrt(2 / 3000))


def test_harmonic_wells_are_sampled_as_boltzmann_says():
    """Of 300 systems of two atoms: kinetic and potential energies follow gamma laws, positions a normal one."""
    systems = State.of([ase.Atoms("CO", positions=np.zeros((2, 3)))] * 300)
    systems.rest = torch.zeros_like(systems.rest)  # wells hold the atoms in space
    stiffness = 5.0
    integrator = Langevin(2.0, TEMPERATURE, thermostat_time=20.0, seed=3)
    frames = md(systems, Model(HarmonicWell(stiffness)), integrator, 600, every=200, temperature=TEMPERATURE)
    kt = KB * TEMPERATURE
    kinetic, potential, places = [], [], []
    for frame in frames:
        if frame.step > 0:  # twenty thermostat times apart
            kinetic.append(frame.kinetic.numpy() / kt)
            potential.append(frame.potential.numpy() / kt)
            places.append(frame.state.positions.numpy() * (stiffness / kt) ** 0.5)
    assert stats.kstest(np.concatenate(potential), stats.gamma(3).cdf).pvalue > 1e-3
    assert stats.kstest(np.ravel(places), "norm").pvalue > 1e-3
    # BAOAB is exact in positions; velocities of carbon are too cold by (w dt)^2 / 4 = .4 %, while the mean of 1800
    # kinetic terms scatters by 1.9 %
    assert stats.kstest(np.concatenate(kinetic), stats.gamma(3).cdf).pvalue > 1e-3
