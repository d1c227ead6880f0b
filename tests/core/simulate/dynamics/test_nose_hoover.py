"""Nose-Hoover chains beside ASE's, and their temperature."""

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.calculators.harmonic import HarmonicCalculator, HarmonicForceField
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from scipy import stats

from atomsml.potential import Prediction
from atomsml.simulate.dynamics.nose_hoover import NoseHoover
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.state import State, total
from atomsml.testing.model_potentials import HarmonicWell
from atomsml.units import KB

TEMPERATURE = 300.0  # K


@pytest.mark.parametrize("thermostat_time", [8.0, 30.0])
def test_the_equations_of_motion_are_those_of_ase(thermostat_time):
    """Both solve them to second order in other ways: what lies between falls with the square of the time step."""
    differences = []
    for timestep in (1.0, 0.5):
        atoms = ase.Atoms("CO2", positions=np.random.default_rng(0).normal(size=(3, 3)) * 0.3)
        origin = atoms.copy()
        origin.positions = np.zeros((3, 3))
        atoms.calc = HarmonicCalculator(HarmonicForceField(origin, hessian_x=5 * np.eye(9)))
        state = State.of([atoms])
        state.rest = torch.zeros_like(state.rest)  # the wells hold the atoms in space; ASE counts all 3N
        steps = round(60 / timestep)
        integrator = NoseHoover(timestep, TEMPERATURE, thermostat_time)
        *_, frame = md(state, Model(HarmonicWell(5.0)), integrator, steps, steps)
        times = {"timestep": timestep * units.fs, "tdamp": thermostat_time * units.fs}
        NoseHooverChainNVT(atoms, temperature_K=TEMPERATURE, tchain=3, **times).run(steps)
        differences.append(np.abs(frame.state.positions.numpy() - atoms.positions).max())
    assert differences[0] < 0.02
    assert differences[0] / differences[1] == pytest.approx(4, rel=0.1)  # fourth-order terms: (dt / period)^2


def chaotic_wells(graph, forces=True, stress=False):
    """x^2 y^2 + y^2 z^2 + z^2 x^2 beside a weak harmonic well: every orbit mixes."""
    x = graph.positions
    squares = x.square()
    others = squares.sum(dim=1, keepdim=True) - squares
    atom_energies = 5 * (squares * others).sum(dim=1) + squares.sum(dim=1) / 2
    return Prediction(
        energy=total(atom_energies, graph.batch, graph.num_systems),
        atom_energies=atom_energies,
        forces=-20 * x * others - x,
    )


@pytest.mark.parametrize("freedom", [6, 9])
def test_kinetic_energies_follow_the_gamma_law_of_what_moves(freedom):
    """With a centre of mass that rests, and without."""
    rng = np.random.default_rng(0)
    systems = State.of([ase.Atoms("CNO", positions=rng.normal(size=(3, 3)) * 0.3) for _ in range(300)])
    if freedom == 9:
        systems.rest = torch.zeros_like(systems.rest)
    frames = md(systems, Model(chaotic_wells), NoseHoover(1.0, TEMPERATURE, 20.0), 1500, 500, temperature=TEMPERATURE)
    kinetic = [frame.kinetic.numpy() / (KB * TEMPERATURE) for frame in frames if frame.step >= 500]
    assert stats.kstest(np.concatenate(kinetic), stats.gamma(freedom / 2).cdf).pvalue > 1e-3
