"""Density, heat capacity, bond lengths, and errors from blocks."""

from dataclasses import replace
from typing import Any

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.simulate.analysis import ANALYSES
from atomsml.simulate.analysis.findings import mean_and_error
from atomsml.simulate.analysis.heat_capacity import heat_capacity
from atomsml.simulate.analysis.motion import Motion, motion_of_frames
from atomsml.units import GPA, KB


def test_errors_of_independent_numbers(rng: np.random.Generator) -> None:
    told = np.array([mean_and_error(rng.normal(loc=3, scale=2, size=1000)) for _ in range(200)])
    assert told[:, 0].mean() == pytest.approx(3, abs=4 * 2 / np.sqrt(200 * 1000))
    # chi square with 4 degrees of freedom for each: the mean of 200 is known to 5 %
    assert np.sqrt(np.square(told[:, 1]).mean()) == pytest.approx(2 / np.sqrt(1000), rel=0.15)


def test_density_of_copper() -> None:
    """63.546 g/mol / (6.02214076e23 / mol (3.615 A)^3 / 4)."""
    found = ANALYSES["density"](motion_of_frames([bulk("Cu", "fcc", 3.615)] * 10, "copper", 5.0)).numbers
    assert found["density [g/cm^3]"] == pytest.approx(4 * 63.546 / (6.02214076e23 * 3.615e-8**3), rel=1e-6)
    assert found["volume [A^3]"] == pytest.approx(3.615**3 / 4)
    assert found["error of volume [A^3]"] < 1e-12


def sampled(rng: np.random.Generator, ensemble: str, frames: int = 4000) -> Motion:
    """An ideal gas of 20 atoms: kinetic energies of 60 degrees of freedom; at constant pressure their volumes too."""
    atoms, temperature, pressure = 20, 300.0, 0.05
    energy = rng.gamma(1.5 * atoms, KB * temperature, size=frames)
    volume = rng.gamma(atoms + 1, KB * temperature / (pressure * GPA), size=frames)
    motion = motion_of_frames([ase.Atoms("Ar20", positions=np.zeros((20, 3)), cell=[9] * 3, pbc=True)], "gas", 1.0)
    return replace(
        motion,
        positions=np.zeros((frames, atoms, 3)),
        cell=np.cbrt(volume)[:, None, None] * np.eye(3),
        energy=energy,
        temperature=np.full(frames, temperature),
        settings={"ensemble": ensemble, "temperature": "300", "pressure": str(pressure)},
    )


@pytest.mark.parametrize(("ensemble", "name", "expected"), [("nvt", "C_V", 1.5), ("npt", "C_P", 2.5 + 1 / 20)])
def test_heat_capacity_of_an_ideal_gas(rng: np.random.Generator, ensemble: str, name: str, expected: float) -> None:
    """3/2 kB per atom, and at constant pressure 5/2, of which V^N leaves one atom's worth more."""
    found = ANALYSES["heat-capacity"](sampled(rng, ensemble)).numbers
    value, error = found[f"{name} [kB per atom]"], found[f"error of {name} [kB per atom]"]
    assert abs(value - expected) < 4 * error
    assert error < 0.1 * expected
    assert found[f"{name} [eV/K]"] == pytest.approx(20 * KB * value)


def test_errors_of_heat_capacities(rng: np.random.Generator) -> None:
    """Variances of Gaussian numbers scatter by sqrt(2 / n)."""
    told = np.array([heat_capacity(rng.normal(size=2000), 100.0) for _ in range(200)])
    expected = 1 / (KB * 100.0**2)
    assert told[:, 0].mean() == pytest.approx(expected, rel=4 * np.sqrt(2 / 2000 / 200))
    assert np.sqrt(np.square(told[:, 1]).mean()) == pytest.approx(expected * np.sqrt(2 / 2000), rel=0.15)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ensemble": "nve"}, "this run was at constant energy"),
        ({}, "the file does not say that it was constant"),
        ({"ensemble": "npt", "temperature": 300.0}, "does not say of one pressure that it was kept"),
        ({"ensemble": "nvt", "temperature": "300:600"}, "does not say of one temperature that it was kept"),
    ],
)
def test_heat_capacities_need_constant_temperature(
    rng: np.random.Generator, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        ANALYSES["heat-capacity"](replace(sampled(rng, "nvt", 200), settings=settings))


def test_bonds_of_molecules(rng: np.random.Generator) -> None:
    """Lengths as ASE measures them, across the border of a cell as well; a bond that is pulled apart is broken."""
    frames = []
    for step in range(20):
        atoms = molecule("CH3OH", cell=[8, 8, 8], pbc=True)
        atoms.rattle(0.02, rng=rng)
        atoms.positions[1, 2] += 0.0 if step < 15 else 2.0
        atoms.wrap()
        frames.append(atoms)
    oxygen, carbon = 1, 0
    expected = [atoms.get_distance(carbon, oxygen, mic=True) for atoms in frames]
    found = ANALYSES["bonds"](motion_of_frames(frames, "methanol", None))
    np.testing.assert_allclose(found.tables["bonds"]["C-O [A]"], expected, atol=1e-12)
    assert found.numbers["bonds"] == 5
    assert found.numbers["broken"] == 2  # C-O, O-H
    assert found.numbers["H-C mean [A]"] == pytest.approx(1.09, abs=0.03)


def test_bonds_of_a_crystal_and_their_drift() -> None:
    frames = [bulk("C", "diamond", 3.567 * (1 + 0.001 * step)) for step in range(11)]
    found = ANALYSES["bonds"](motion_of_frames(frames, "diamond", 1.0)).numbers
    assert found["bonds"] == 4  # of each of two atoms four, each shared by two
    assert found["C-C drift [A]"] == pytest.approx(0.01 * 3.567 * 3**0.5 / 4)
    with pytest.raises(ValueError, match="no two atoms of the first frame are bonded"):
        ANALYSES["bonds"](motion_of_frames([bulk("Ar", "fcc", 5.3)] * 3, "argon", None))
