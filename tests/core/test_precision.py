"""The precision report against deviations and drifts computed beside it."""

import dataclasses

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
from atomsml.potentials.mace import MACE
from atomsml.precision import SEED, precision_report
from atomsml.simulate.md import MDSettings, UnstableDynamics, draw_velocities

SETTINGS = MDSettings(ensemble="nve", temperature=300.0, timestep=1.0, steps=40)


def crystal() -> ase.Atoms:
    atoms = bulk("Ar", "fcc", a=3.2, cubic=True)
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


def test_deviations_and_drift_are_those_of_a_run_with_ase(pair_potential):
    start = crystal()
    *_, report = precision_report(pair_potential, start, "cpu", SETTINGS)
    assert report.name == "float32 exact"
    configurations, _ = _run_with_ase(pair_potential, start, "float64")
    exact, rounded = (AtomsMLCalculator(pair_potential, "cpu", p) for p in ("float64", "float32"))
    errors = {"forces": [], "stress": [], "energy": []}
    for atoms in configurations[:: SETTINGS.steps // 10]:
        for name, found in errors.items():
            found.append(rounded.get_property(name, atoms) - exact.get_property(name, atoms))
    for name, size in (("forces", 1), ("stress", 1), ("energy", len(start))):
        error = np.array(errors[name]) / size
        assert getattr(report, f"{name}_max") == pytest.approx(np.abs(error).max(), rel=1e-6)
        assert getattr(report, f"{name}_rms") == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-6)
    _, energies = _run_with_ase(pair_potential, start, "float32")
    times = np.arange(SETTINGS.steps + 1) * SETTINGS.timestep / 1000
    line = linregress(times, np.array(energies) / len(start))
    assert report.drift == pytest.approx(line.slope, rel=1e-6)
    left = np.array(energies) / len(start) - line.intercept - line.slope * times
    assert report.fluctuation == pytest.approx(np.sqrt(np.mean(left**2)), rel=1e-6)


def _run_with_ase(potential, start, precision):
    """Configurations and total energies."""
    atoms = start.copy()
    atoms.calc = AtomsMLCalculator(potential, "cpu", precision)
    atoms.set_constraint(FixCom())
    draw_velocities(atoms, SETTINGS.temperature, np.random.default_rng(SEED))
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


def test_tables_have_reports_of_their_own():
    config = MACE.Config(elements=(1, 8), channels=8, hidden_lmax=1, lmax=2, correlation=2, radial_mlp=(8,), scale=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        potential = MACE(config)
    settings = dataclasses.replace(SETTINGS, steps=10)
    reports = {r.name: r for r in precision_report(potential, molecule("H2O"), "cpu", settings)}
    policies = [f"{precision}{exact}" for precision in ("float64", "mixed", "float32") for exact in (" exact", "")]
    assert list(reports) == policies
    assert reports["float64 exact"].forces_max == 0
    assert 0 < reports["float64"].forces_max < 1e-5  # what the calculator promises of tables
    assert reports["float64"].forces_max < reports["mixed"].forces_max < 1e-4


def test_a_run_that_explodes_is_an_error(pair_potential):
    atoms = ase.Atoms("Ar2", [(0, 0, 0), (0.5, 0, 0)])
    with pytest.raises(UnstableDynamics, match="moved by"):
        list(precision_report(pair_potential, atoms, "cpu", SETTINGS))
