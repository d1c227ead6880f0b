"""Relaxation against ASE's own optimizers and against an energy-volume curve, with ASE's EMT potential."""

from __future__ import annotations

from typing import Any, ClassVar

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.optimize import FIRE

from atomsml.simulate.relax import OPTIMIZERS, RelaxSettings, iterate_relax, relax


def _ethane() -> ase.Atoms:
    atoms = molecule("C2H6")
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    return atoms


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ends_where_the_forces_are_small(optimizer: str) -> None:
    atoms = _ethane()
    last = relax(atoms, RelaxSettings(fmax=0.01, optimizer=optimizer))
    assert last.converged
    largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
    assert largest < 0.01
    assert last.fmax == pytest.approx(largest, rel=1e-12)
    assert last.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)


def test_takes_the_steps_that_ase_takes() -> None:
    ours, theirs = _ethane(), _ethane()
    states = list(iterate_relax(ours, RelaxSettings(fmax=0.02, optimizer="fire")))
    dynamics = FIRE(theirs, logfile=None)
    dynamics.run(fmax=0.02)
    assert states[-1].step == dynamics.nsteps
    assert [state.step for state in states] == list(range(dynamics.nsteps + 1))
    np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-9)


def test_relaxed_cell_is_the_minimum_of_the_energy_volume_curve() -> None:
    def energy(a: float) -> float:
        atoms = bulk("Cu", a=a)
        atoms.calc = EMT()
        return float(atoms.get_potential_energy())

    lengths = np.linspace(3.55, 3.63, 9)
    expected = np.roots(np.polyder(np.polyfit(lengths - 3.59, [energy(a) for a in lengths], 4)))
    expected = 3.59 + expected[np.abs(expected).argmin()].real

    atoms = bulk("Cu", a=3.7)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.02 * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])), scale_atoms=True
    )
    atoms.calc = EMT()
    last = relax(atoms, RelaxSettings(fmax=1e-4, cell=True))
    assert last.converged
    # fmax 1e-4 eV/A is 2e-6 of B V = 10 eV per atom; the quartic fit is the larger error
    assert (4 * atoms.get_volume()) ** (1 / 3) == pytest.approx(expected, abs=2e-4)
    lengths_and_angles = atoms.cell.cellpar()
    np.testing.assert_allclose(lengths_and_angles[3:], 60.0, atol=0.01)


def test_says_when_the_steps_run_out() -> None:
    last = relax(_ethane(), RelaxSettings(fmax=1e-9, steps=2))
    assert (last.step, last.reason, last.converged) == (2, "out of steps", False)


def test_convergence_on_the_very_last_step_counts() -> None:
    needed = relax(_ethane(), RelaxSettings()).step
    assert relax(_ethane(), RelaxSettings(steps=needed)).converged
    assert not relax(_ethane(), RelaxSettings(steps=needed - 1)).converged


class Hill(Calculator):
    """Two atoms at a distance r with energy exp(-(r - 2)^2): forces vanish on the top, and far away."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        bond = self.atoms.positions[1] - self.atoms.positions[0]
        r = np.linalg.norm(bond)
        energy = float(np.exp(-((r - 2) ** 2)))
        pull = -2 * (r - 2) * energy * bond / r
        self.results = {"energy": energy, "free_energy": energy, "forces": np.array([pull, -pull])}


class Uphill(Hill):
    """The same with forces that are no gradient: they vanish on the top, and lead there."""

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["forces"] = -self.results["forces"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_top_of_a_hill_is_no_minimum(optimizer: str) -> None:
    atoms = ase.Atoms("H2", [[0, 0, 0], [2.3, 0, 0]])
    atoms.calc = Hill()
    last = relax(atoms, RelaxSettings(optimizer=optimizer))
    assert last.converged
    assert last.energy < 0.1


def test_forces_that_end_above_the_start_are_no_success() -> None:
    atoms = ase.Atoms("H2", [[0, 0, 0], [2.3, 0, 0]])
    atoms.calc = Uphill()
    last = relax(atoms)
    assert last.reason == "energy rose"
    assert last.energy > 0.99


class Saddle(Calculator):
    """10 (x^2 - 1)^2 + 5 y^2 + z^2: two minima, at x = 1 and -1, and a saddle between them."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        x, y, z = self.atoms.positions[0]
        energy = 10 * (x**2 - 1) ** 2 + 5 * y**2 + z**2
        forces = -np.array([[40 * x * (x**2 - 1), 10 * y, 2 * z]])
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "x", [0.01, 0.2, 0.4]
)  # from 0.2 ASE's LBFGS does not converge, from 0.4 it ends on the saddle
def test_a_saddle_is_left(optimizer: str, x: float) -> None:
    atoms = ase.Atoms("H", [[x, 0.5, 0.1]])
    atoms.calc = Saddle()
    assert relax(atoms, RelaxSettings(fmax=0.01, optimizer=optimizer)).converged
    # a force of 0.01 is a distance of 0.01 / 2 along the softest direction
    np.testing.assert_allclose(np.abs(atoms.positions), [[1, 0, 0]], atol=0.005)


def test_forces_that_are_not_finite_end_it() -> None:
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0]])
    atoms.calc = Hill()
    with np.errstate(invalid="ignore"):
        last = relax(atoms)
    assert (last.step, last.reason) == (0, "energy or forces are not finite")


def test_fixed_atoms_stay() -> None:
    atoms = _ethane()
    atoms.set_constraint(ase.constraints.FixAtoms([0]))
    before = atoms.positions[0].copy()
    assert relax(atoms).converged
    np.testing.assert_array_equal(atoms.positions[0], before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fmax": float("nan")}, "fmax must be a positive number"),
        ({"fmax": 0.0}, "fmax must be a positive number"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"optimizer": "newton"}, "there are lbfgs, cg, fire"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelaxSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_a_cell_that_is_not_periodic_is_not_relaxed(pbc: bool | tuple[bool, ...]) -> None:
    atoms = bulk("Cu")
    atoms.pbc = pbc
    atoms.calc = EMT()
    with pytest.raises(ValueError, match="periodic along all three axes"):
        relax(atoms, RelaxSettings(cell=True))
