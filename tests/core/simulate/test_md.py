"""Molecular dynamics against statistical mechanics, on springs whose averages are known, and on ASE's EMT."""

from __future__ import annotations

from typing import Any, ClassVar

import ase
import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCom

from atomsml.simulate.md import MDSettings, MDState, UnstableDynamics, draw_momenta, iterate_md

STIFFNESS = 20.0  # eV/A^2


class Springs(Calculator):
    """Diatomics: atoms 2i and 2i + 1 are joined by STIFFNESS / 2 * (r - 1)^2."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        bonds = self.atoms.positions[1::2] - self.atoms.positions[::2]
        lengths = np.linalg.norm(bonds, axis=1, keepdims=True)
        pull = STIFFNESS * (lengths - 1) * bonds / lengths
        forces = np.empty_like(self.atoms.positions)
        forces[::2], forces[1::2] = pull, -pull
        energy = float(STIFFNESS / 2 * ((lengths - 1) ** 2).sum())
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


def _diatomics(count: int) -> ase.Atoms:
    ends = [[[0, 5 * i, 0], [1, 5 * i, 0]] for i in range(count)]
    atoms = ase.Atoms("CO" * count, np.concatenate(ends).astype(float))
    atoms.calc = Springs()
    return atoms


def _run(atoms: ase.Atoms, seed: int = 0, **settings: Any) -> list[MDState]:
    return list(iterate_md(atoms, MDSettings(**settings), np.random.default_rng(seed)))


def test_nvt_has_the_temperature_of_the_thermostat_in_every_kind_of_motion() -> None:
    atoms = _diatomics(50)
    states = _run(atoms, steps=1500, thermostat_time=10.0, temperature=300.0)[150:]
    kT = units.kB * 300.0
    # 1350 fs are 68 correlation times of 20 fs: 297 kinetic terms give a relative error of sqrt(2 / 20000) = 1 %,
    # 50 stretches one of sqrt(2 / 3400) = 2.4 %; the bounds are five times as wide
    assert np.mean([s.temperature for s in states]) == pytest.approx(300.0, rel=0.05)
    assert np.mean([s.potential_energy for s in states]) == pytest.approx(50 * kT / 2, rel=0.12)


def test_nvt_of_one_molecule_counts_the_degrees_of_freedom_that_move() -> None:
    atoms = _diatomics(1)
    states = _run(atoms, steps=2500, thermostat_time=5.0, temperature=300.0)
    # 250 correlation times of 3 terms: sqrt(2 / 750) = 5 %; counting 6 degrees of freedom would give 150 K
    assert np.mean([s.temperature for s in states]) == pytest.approx(300.0, rel=0.25)
    assert states[5].temperature == pytest.approx(2 * states[5].kinetic_energy / (3 * units.kB), rel=1e-12)


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_centre_of_mass_rests(ensemble: str) -> None:
    atoms = _diatomics(3)
    centre = atoms.get_center_of_mass()
    settings = MDSettings(ensemble=ensemble, steps=200)
    for _ in iterate_md(atoms, settings, np.random.default_rng(0)):
        assert atoms.constraints == []  # what the caller would write
    np.testing.assert_allclose(atoms.get_momenta().sum(0), 0, atol=1e-12)
    np.testing.assert_allclose(atoms.get_center_of_mass(), centre, atol=1e-12)
    assert atoms.constraints == []


def test_nve_error_falls_with_the_square_of_the_time_step() -> None:
    errors = []
    for timestep in (0.5, 0.25):
        atoms = molecule("C2H6")
        atoms.calc = EMT()
        states = _run(atoms, ensemble="nve", timestep=timestep, steps=round(40 / timestep), temperature=300.0)
        errors.append(np.std([s.total_energy for s in states]))
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.2)


def test_same_seed_same_trajectory() -> None:
    first, again, other = (_diatomics(2) for _ in range(3))
    _run(first, seed=1, steps=50)
    _run(again, seed=1, steps=50)
    _run(other, seed=2, steps=50)
    np.testing.assert_array_equal(first.positions, again.positions)
    assert np.abs(first.positions - other.positions).max() > 1e-3


def test_velocities_are_maxwell_boltzmann() -> None:
    atoms = ase.Atoms("CO" * 20000)
    draw_momenta(atoms, 500.0, np.random.default_rng(0))
    # each component has variance kT / m; 60000 of them: sqrt(2 / 60000) = 0.6 % relative error of a variance
    for symbol in ("C", "O"):
        mine = atoms.symbols == symbol
        variance = (atoms.get_velocities()[mine] ** 2).mean() * atoms.get_masses()[mine][0]
        assert variance == pytest.approx(units.kB * 500.0, rel=0.03)
    atoms.set_constraint(FixCom())
    draw_momenta(atoms, 500.0, np.random.default_rng(0))
    np.testing.assert_allclose(atoms.get_momenta().sum(0), 0, atol=1e-9)


def test_own_constraints_are_kept() -> None:
    atoms = _diatomics(2)
    atoms.set_constraint(FixAtoms([0]))
    before = atoms.positions[0].copy()
    _run(atoms, steps=50)
    np.testing.assert_array_equal(atoms.positions[0], before)
    assert isinstance(atoms.constraints[0], FixAtoms)


def test_times_and_steps() -> None:
    states = _run(_diatomics(1), steps=4, timestep=0.5)
    assert [s.step for s in states] == [0, 1, 2, 3, 4]
    assert [s.time for s in states] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_exploding_run_stops_with_the_step() -> None:
    # far beyond the stability limit 2 / omega = 15 fs of this spring
    with pytest.raises(UnstableDynamics, match=r"moved by .* in step \d+; try a smaller time step"):
        _run(_diatomics(1), timestep=50.0, steps=500, temperature=1000.0)


def test_no_atom_moves_farther_than_one_angstrom_in_a_step() -> None:
    """Of two atoms without forces, whose steps are as long as the time step."""

    def run(timestep: float) -> float:
        atoms = ase.Atoms("Cu2", [[0, 0, 0], [50, 0, 0]])
        atoms.calc = EMT()
        before = atoms.get_positions()
        _run(atoms, ensemble="nve", steps=1, timestep=timestep, temperature=300.0)
        return float(np.linalg.norm(atoms.positions - before, axis=1).max())

    per_fs = run(1.0)
    assert run(0.99 / per_fs) == pytest.approx(0.99)
    with pytest.raises(UnstableDynamics, match=r"moved by 1\.0 A in step 1"):
        run(1.01 / per_fs)


def test_nan_stops_the_run() -> None:
    atoms = _diatomics(1)
    atoms.positions[1] = atoms.positions[0]  # 0 / 0 in the unit vector of the bond
    with np.errstate(invalid="ignore"), pytest.raises(UnstableDynamics, match="not finite at step 0"):
        _run(atoms)


@pytest.mark.parametrize("name", ["temperature", "timestep", "thermostat_time"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive number"):
        MDSettings(**{name: value})


def test_other_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown ensemble 'npt'"):
        MDSettings(ensemble="npt")
    with pytest.raises(ValueError, match="unknown thermostat 'oven'; there are langevin"):
        MDSettings(thermostat="oven")
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        MDSettings(steps=0)
    lonely = ase.Atoms("Cu")
    lonely.calc = EMT()
    with pytest.raises(ValueError, match="single atom"):
        _run(lonely)
