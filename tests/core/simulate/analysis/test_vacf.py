"""Oscillators of known frequency."""

import ase
import numpy as np
import pytest
from scipy.integrate import trapezoid

from atomsml.simulate.analysis import ANALYSES
from atomsml.simulate.analysis.motion import motion_of_frames
from atomsml.simulate.analysis.vacf import PER_CM, density_of_states, velocity_autocorrelation
from atomsml.units import FS

SPACING = 2.0  # fs


def test_the_peaks_of_oscillators(rng: np.random.Generator) -> None:
    """Two kinds, of which each has its share of the states, whatever the amplitudes are by equal energy."""
    times, wave_numbers = np.arange(4000) * SPACING, np.repeat([500.0, 1500.0], [30, 10])
    masses = np.repeat([12.0, 1.0], [30, 10])
    phases = rng.uniform(0, 2 * np.pi, (40, 3))
    angles = 2 * np.pi * times[:, None, None] * wave_numbers[:, None] / PER_CM + phases
    velocities = np.cos(angles) / np.sqrt(masses)[:, None]
    vacf = velocity_autocorrelation(velocities, masses)
    found, states = density_of_states(vacf[:1001], SPACING)
    width = 3 / (2 * 1000 * SPACING) * PER_CM  # of the window
    assert trapezoid(states, found) == pytest.approx(1)
    for wave_number, share in ((500.0, 0.75), (1500.0, 0.25)):
        near = np.abs(found - wave_number) < 3 * width
        assert found[near][states[near].argmax()] == pytest.approx(wave_number, abs=width / 3)
        assert trapezoid(states[near], found[near]) == pytest.approx(share, abs=0.02)


def test_the_sum_over_atoms_by_hand(rng: np.random.Generator) -> None:
    v, masses = rng.normal(size=(20, 3, 3)), np.array([1.0, 2.0, 5.0])
    expected = [np.einsum("a,fax,fax->", masses, v[lag:], v[: 20 - lag]) / (20 - lag) for lag in range(20)]
    np.testing.assert_allclose(velocity_autocorrelation(v, masses), expected, atol=1e-12)


def oscillator(frames: int, spacing: float, moves: bool = True) -> list[ase.Atoms]:
    """H2 that vibrates at 1,000 cm^-1."""
    images = []
    for time in np.arange(frames) * spacing:
        atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.75]])
        speed = 0.01 * np.cos(2 * np.pi * 1000 / PER_CM * time) / FS
        if moves:
            atoms.set_velocities([[0, 0, -speed], [0, 0, speed]])
        images.append(atoms)
    return images


def test_analyze() -> None:
    found = ANALYSES["vacf"](motion_of_frames(oscillator(2000, 1.0), "H2", 1.0))
    assert found.numbers["resolution [cm^-1]"] == pytest.approx(PER_CM / 2000)
    assert found.numbers["highest at [cm^-1]"] == pytest.approx(1000, abs=PER_CM / 2000)
    assert found.tables["vacf"]["VACF"][0] == 1


def test_slow_writing_is_warned_of_and_no_velocities_are_refused() -> None:
    with pytest.warns(
        UserWarning, match=r"frames every 10 fs tell motions up to 1668 cm\^-1.*write a frame every 4 fs"
    ):
        ANALYSES["vacf"](motion_of_frames(oscillator(100, 10.0), "H2", 10.0))
    with pytest.raises(ValueError, match="the file has no velocities"):
        ANALYSES["vacf"](motion_of_frames(oscillator(100, 1.0, moves=False), "H2", 1.0))
