"""Rigid bonds: the motion is ASE's, lengths and energies stay, and what is sampled is what theory says."""

from __future__ import annotations

from itertools import pairwise

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLengths
from ase.md.verlet import VelocityVerlet
from scipy import integrate, stats

from atomsml import AtomsMLCalculator
from atomsml.simulate.dynamics.csvr import CSVR
from atomsml.simulate.dynamics.integrator import Integrator
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.dynamics.nose_hoover import NoseHoover
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.relax import RelaxSettings
from atomsml.simulate.rigid import hydrogen_bonds
from atomsml.simulate.state import State
from atomsml.testing.model_potentials import HarmonicWell, IdealGas
from atomsml.units import KB

STIFFNESS = 5.0  # eV/A^2


def rigid(name: str) -> ase.Atoms:
    atoms = molecule(name)
    atoms.set_constraint(FixBondLengths(hydrogen_bonds(atoms)))
    return atoms


def lengths(state: State) -> torch.Tensor:
    """(bonds,) A."""
    centres, column = state.ends.nonzero(as_tuple=True)
    ends = centres + state.ends[centres, column]
    return torch.linalg.vector_norm(state.positions[ends] - state.positions[centres], dim=1)


def test_the_motion_is_that_of_ase() -> None:
    """Of a molecule whose carbons and oxygen have three, two and one rigid bonds, in a batch with others."""
    calculator = AtomsMLCalculator("organic-xtb", device="cpu", precision="float64")
    batch = [molecule("CO2"), rigid("CH3CH2OH"), rigid("H2")]
    state = State.of(batch)
    assert state.degrees_of_freedom.tolist() == [9 - 3, 27 - 3 - 6, 6 - 3 - 1]
    frames = md(state, Model.of(calculator), NVE(1.0), 12, temperature=300.0)
    ours = batch[1].copy()
    for frame in frames:
        here = frame.state.batch == 1
        if frame.step == 0:
            constraints, before = ours.constraints, lengths(frame.state)
            ours.set_constraint()
            ours.set_velocities(frame.state.velocities[here].numpy())
            ours.set_constraint(constraints)
            ours.calc = calculator
            verlet = VelocityVerlet(ours, 1.0 * units.fs)
            assert frame.temperature[1] == pytest.approx(2 * ours.get_kinetic_energy() / (18 * units.kB), rel=1e-12)
        else:
            verlet.run(1)
        np.testing.assert_allclose(frame.state.positions[here].numpy(), ours.positions, atol=1e-10)
        assert torch.allclose(lengths(frame.state), before, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [NVE, Langevin, CSVR, NoseHoover])
def test_conserved_energies_err_by_the_square_of_the_time_step(kind: type[Integrator]) -> None:
    """In wells that turn the molecules; the centres of mass are free to move."""
    errors = []
    for timestep in (2.0, 1.0):
        state = State.of([rigid(name) for name in ("CH4", "H2O", "CH3OH")] * 20)
        state.rest = torch.zeros_like(state.rest)
        integrator = NVE(timestep) if kind is NVE else kind(timestep, 300.0, 200.0)
        frames = md(state, Model(HarmonicWell(STIFFNESS)), integrator, round(200 / timestep), temperature=300.0, seed=1)
        conserved = np.array([frame.conserved.numpy() for frame in frames])
        errors.append(np.sqrt(np.square(conserved - conserved[0]).mean()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)
    assert torch.allclose(lengths(state), state.lengths[state.ends != 0], rtol=0, atol=1e-8)


def test_every_degree_of_freedom_has_its_share() -> None:
    """Dumbbells in wells: the centre is a harmonic oscillator, and three translations and two rotations have kT / 2."""
    count, temperature = 2000, 300.0
    dumbbell = ase.Atoms("H2", [[0, 0, -0.4], [0, 0, 0.4]])
    dumbbell.set_constraint(FixBondLengths([[0, 1]]))
    state = State.of([dumbbell] * count)
    state.rest = torch.zeros_like(state.rest)
    thermostat = Langevin(2.0, temperature, thermostat_time=20.0)
    *_, last = md(state, Model(HarmonicWell(STIFFNESS)), thermostat, 150, 150, temperature)
    kinetic, potential = (x.numpy() / (KB * temperature) for x in (last.kinetic, last.potential))
    assert stats.kstest(2 * kinetic, stats.chi2(5).cdf).pvalue > 1e-3
    turned = potential - STIFFNESS * 0.4**2 / (KB * temperature)  # what the lengths store
    assert stats.kstest(2 * turned, stats.chi2(3).cdf).pvalue > 1e-3


def test_an_angle_between_rigid_bonds_has_its_distribution() -> None:
    """Of atoms that see nothing: not uniform in x = cos(angle), but det(J M^-1 J^T)^(1/2) of the two constraints.

    That is sqrt(1 - (m x / (m + M))^2), with the masses M of the centre and m of the ends (Fixman, Proc. Natl. Acad.
    Sci. 71, 3050 (1974)).
    """
    count, temperature, centre, end = 1000, 300.0, 1.0, 10.0
    rng, structures = np.random.default_rng(0), []
    for _ in range(count):
        arms = rng.normal(size=(2, 3))
        arms /= np.linalg.norm(arms, axis=1)[:, None]
        structures.append(ase.Atoms("OH2", [[0, 0, 0], *arms], masses=[centre, end, end]))
        structures[-1].set_constraint(FixBondLengths([[0, 1], [0, 2]]))
    state = State.of(structures)
    *_, last = md(state, Model(IdealGas()), Langevin(6.0, temperature, 100.0), 120, 120, temperature)
    x = last.state.positions.view(count, 3, 3)
    cosines = ((x[:, 1] - x[:, 0]) * (x[:, 2] - x[:, 0])).sum(dim=1).numpy()
    share = end / (centre + end)
    edges = np.linspace(-1, 1, 11)
    weights = [integrate.quad(lambda x: np.sqrt(1 - (share * x) ** 2), a, b)[0] for a, b in pairwise(edges)]
    expected = count * np.array(weights) / np.sum(weights)
    observed = np.histogram(cosines, edges)[0]
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert stats.chisquare(observed, np.full(10, count / 10)).pvalue < 1e-3  # which uniform ones would not


def test_bonds_across_a_face_of_the_cell_are_bonds() -> None:
    water = molecule("H2O", cell=[6, 6, 6], pbc=True)
    water.wrap()
    assert np.ptp(water.positions, axis=0).max() > 4
    water.set_constraint(FixBondLengths(hydrogen_bonds(water)))
    state = State.of([water])
    assert torch.allclose(lengths(state), state.lengths[state.ends != 0])
    assert lengths(state).max() < 1


def test_what_is_no_star_or_moves_otherwise_is_refused() -> None:
    chain = molecule("CH3CH2OH")
    chain.set_constraint(FixBondLengths([[0, 1], [1, 2], [2, 3]]))
    with pytest.raises(ValueError, match="these form chains"):
        State.of([chain])
    held = rigid("CH4")
    held.set_constraint([*held.constraints, FixAtoms([0])])
    with pytest.raises(ValueError, match="an atom of a rigid bond cannot be held as well"):
        State.of([held])
    long = molecule("H2")
    long.set_constraint(FixBondLengths([[0, 1]], bondlengths=[0.8]))
    with pytest.raises(ValueError, match="must have their lengths at the start"):
        State.of([long])
    with pytest.raises(ValueError, match="bonds cannot be kept rigid in a relaxation"):
        RelaxSettings().check(rigid("CH4"))
    water = rigid("H2O")
    water.set_cell([6, 6, 6])
    water.pbc = True
    state = State.of([water])
    with pytest.raises(ValueError, match="bonds cannot be rigid while the cell moves"):
        MTK(1.0, 300.0, 0.0).start(state)
