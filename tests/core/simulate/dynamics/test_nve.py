"""Velocity Verlet beside ASE's."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.calculators.harmonic import HarmonicCalculator, HarmonicForceField
from ase.md.verlet import VelocityVerlet

from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.testing.model_potentials import HarmonicWell


def test_a_harmonic_oscillator_is_that_of_ase():
    atoms = bulk("Ar", cubic=True)
    atoms.positions *= 0.1
    atoms.pbc = False
    origin = atoms.copy()
    origin.positions = np.zeros((4, 3))
    state, model = State.of([atoms]), Model(HarmonicWell(1.0))
    state.rest = torch.zeros_like(state.rest)  # the wells hold the atoms in space
    atoms.calc = HarmonicCalculator(HarmonicForceField(origin, hessian_x=np.eye(12)))
    model(state)
    integrator = NVE(timestep=2.0)
    memory = integrator.start(state)
    dynamics = VelocityVerlet(atoms, 2.0 * units.fs)
    for _ in range(50):
        integrator.step(state, memory, model)
        dynamics.run(1)
    assert state.positions.numpy() == pytest.approx(atoms.positions, abs=1e-12)
    assert integrator.conserved(state, memory).item() == pytest.approx(atoms.get_total_energy(), abs=1e-12)
