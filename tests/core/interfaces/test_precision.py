"""The precision report against deviations and drifts computed beside it."""

import dataclasses
import itertools

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixCom
from ase.md.verlet import VelocityVerlet
from scipy.stats import linregress

from atomsml import AtomsMLCalculator
from atomsml.interfaces.precision import SEED, RunSettings, precision_report
from atomsml.potentials.mace import MACE
from atomsml.simulate.state import State
from atomsml.simulate.velocities import draw_velocities

SETTINGS = RunSettings(temperature=300.0, timestep=1.0, steps=40)


@pytest.fixture(scope="module")
def mace():
    """Has tables of its radial functions."""
    config = MACE.Config(elements=(1, 8), channels=8, hidden_lmax=1, lmax=2, correlation=2, radial_mlp=(8,), scale=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MACE(config)


def crystal(symbol: str = "Ar") -> ase.Atoms:
    atoms = bulk(symbol, "fcc", a=3.2, cubic=True)
    atoms.rattle(0.05, seed=0)
    return atoms


def test_a_model_without_tables_has_one_report_for_each_precision(pair_potential):
    reference, mixed, single = precision_report(pair_potential, crystal(), "cpu", SETTINGS)
    assert [r.name for r in (reference, mixed, single)] == ["float64 exact", "mixed exact", "float32 exact"]
    deviations = [value for key, value in dataclasses.asdict(reference).items() if key.endswith(("max", "rms"))]
    assert deviations == [0] * 6
    for report in (mixed, single):
        assert 0 < report.energy_rms < report.energy_max < 1e-5
        assert 0 < report.forces_rms < report.forces_max < 1e-4
        assert 0 < report.stress_rms < report.stress_max < 1e-5
        assert report.drift == pytest.approx(reference.drift, abs=1e-4)
        assert report.step_time > 0
    assert single.forces_max > mixed.forces_max  # rounded positions come on top of a rounded network


def test_deviations_and_drift_are_those_of_a_run_with_ase(mace):
    start = crystal("O")
    reference, report = itertools.islice(precision_report(mace, start, "cpu", SETTINGS), 2)
    assert (reference.name, report.name) == ("float64 exact", "float64")
    configurations, _ = _run_with_ase(mace, start, exact=True)
    exact, tabulated = (AtomsMLCalculator(mace, "cpu", "float64", exact=exact) for exact in (True, False))
    errors = [_computed(tabulated, atoms) - _computed(exact, atoms) for atoms in configurations[::4]]
    # deviations of 1e-8 are differences of numbers of 1 that are rounded at 1e-15
    for name, columns in (("energy", slice(0, 1)), ("stress", slice(1, 7)), ("forces", slice(7, None))):
        error = np.array(errors)[:, columns] / (len(start) if name == "energy" else 1)
        assert getattr(report, f"{name}_max") == pytest.approx(np.abs(error).max(), rel=1e-3)
        assert getattr(report, f"{name}_rms") == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-3)
    _, energies = _run_with_ase(mace, start, exact=False)
    times = np.arange(SETTINGS.steps + 1) * SETTINGS.timestep / 1000
    line = linregress(times, np.array(energies) / len(start))
    assert report.drift == pytest.approx(line.slope, rel=1e-6)
    left = np.array(energies) / len(start) - line.intercept - line.slope * times
    assert report.fluctuation == pytest.approx(np.sqrt(np.mean(left**2)), rel=1e-6)


def _computed(calc, atoms):
    """Energy, stress and forces in one row."""
    return np.concatenate([np.ravel(calc.get_property(name, atoms)) for name in ("energy", "stress", "forces")])


def _run_with_ase(potential, start, exact):
    """Configurations and total energies."""
    state = State.of([start])
    draw_velocities(state, SETTINGS.temperature, SEED)
    atoms = start.copy()
    atoms.calc = AtomsMLCalculator(potential, "cpu", "float64", exact=exact)
    atoms.set_velocities(state.velocities.numpy())
    atoms.set_constraint(FixCom())
    configurations, energies = [], []
    for _ in VelocityVerlet(atoms, SETTINGS.timestep * units.fs).irun(SETTINGS.steps):
        configurations.append(atoms.copy())
        energies.append(atoms.get_total_energy())
    return configurations, energies


def test_a_molecule_has_no_stress_and_constraints_do_not_count(pair_potential):
    atoms = ase.Atoms("Ar3", [(0, 0, 0), (2.2, 0, 0), (0, 2.3, 0)])
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    settings = dataclasses.replace(SETTINGS, temperature=50.0)
    fixed = list(precision_report(pair_potential, atoms, "cpu", settings))
    assert {(r.stress_max, r.stress_rms) for r in fixed} == {(None, None)}
    assert len(atoms.constraints) == 1
    atoms.set_constraint()
    free = precision_report(pair_potential, atoms, "cpu", settings)
    assert [r.drift for r in free] == [r.drift for r in fixed]


def test_tables_have_reports_of_their_own(mace):
    settings = dataclasses.replace(SETTINGS, steps=10)
    reports = {r.name: r for r in precision_report(mace, molecule("H2O"), "cpu", settings)}
    policies = [f"{precision}{exact}" for precision in ("float64", "mixed", "float32") for exact in (" exact", "")]
    assert list(reports) == policies
    assert reports["float64 exact"].forces_max == 0
    assert 0 < reports["float64"].forces_max < 1e-5  # what the calculator promises of tables
    assert reports["float64"].forces_max < reports["mixed"].forces_max < 1e-4


def test_a_run_that_explodes_is_an_error(pair_potential):
    atoms = ase.Atoms("Ar2", [(0, 0, 0), (0.5, 0, 0)])
    with pytest.raises(ValueError, match="moved by"):
        list(precision_report(pair_potential, atoms, "cpu", SETTINGS))
