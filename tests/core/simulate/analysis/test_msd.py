"""Mean square displacements by hand; diffusion of random walks, whose D is known, and ASE's way to it."""

import ase
import numpy as np
import pytest
from ase.md.analysis import DiffusionCoefficient

from atomsml.simulate.analysis import ANALYSES
from atomsml.simulate.analysis.motion import Motion, motion_of_frames, unwrapped
from atomsml.simulate.analysis.msd import autocorrelation, diffusion, mean_square_displacement

SPACING, STEP = 10.0, 0.05  # fs; A along each axis


def walks(rng: np.random.Generator, frames: int, atoms: int) -> np.ndarray:
    """(frames, atoms, 3) A of independent Gaussian steps: D = STEP^2 / (2 SPACING)."""
    return np.cumsum(rng.normal(scale=STEP, size=(frames, atoms, 3)), axis=0)


def test_by_hand(rng: np.random.Generator) -> None:
    x = walks(rng, 40, 3) + 100
    expected = [np.square(x[lag:] - x[: 40 - lag]).sum(axis=2).mean() for lag in range(40)]
    np.testing.assert_allclose(mean_square_displacement(x), expected, atol=1e-12)


def test_autocorrelation_by_hand(rng: np.random.Generator) -> None:
    x = rng.normal(size=30)
    expected = np.correlate(x, x, "full")[29:] / np.arange(30, 0, -1)
    np.testing.assert_allclose(autocorrelation(x), expected, atol=1e-12)


def test_random_walks(rng: np.random.Generator) -> None:
    """Of 60 runs the mean is D, and the errors that are told are the spread of the runs."""
    expected = STEP**2 / (2 * SPACING) * 1000
    told = np.array([diffusion(walks(rng, 500, 20), SPACING) for _ in range(60)])
    spread = told[:, 0].std(ddof=1)
    assert abs(told[:, 0].mean() - expected) < 4 * spread / np.sqrt(60)
    # the error of five blocks follows chi with 4 degrees of freedom: its mean square over 60 runs is known to 9 %
    assert np.sqrt(np.square(told[:, 1]).mean()) == pytest.approx(spread, rel=0.4)
    assert told[:, 2].mean() == pytest.approx(1, abs=0.05)


def test_as_ase(rng: np.random.Generator) -> None:
    """ASE lays its line through the displacements from the first frame: the same D within its own scatter."""
    x = walks(rng, 2000, 200)
    frames = [ase.Atoms("Ar200", positions=positions) for positions in x]
    theirs = DiffusionCoefficient(frames, SPACING * ase.units.fs)
    theirs.calculate()
    (slope,), _ = theirs.get_diffusion_coefficients()  # A^2 per ASE's unit of time
    d, error, _ = diffusion(x, SPACING)
    assert slope * ase.units.fs * 1000 == pytest.approx(d, rel=0.1)
    assert error < 0.1 * d


def test_free_flight_grows_with_the_square(rng: np.random.Generator) -> None:
    x = np.arange(200)[:, None, None] * rng.normal(size=(5, 3))
    assert diffusion(x, SPACING)[2] == pytest.approx(2, abs=1e-6)


def motion_of(positions: np.ndarray, cell: np.ndarray, spacing: float | None = SPACING) -> Motion:
    atoms = positions.shape[1]
    frames = [
        ase.Atoms(np.full(atoms, 18), positions=x, cell=c, pbc=True) for x, c in zip(positions, cell, strict=True)
    ]
    return motion_of_frames(frames, "argon", spacing)


def test_neither_wrapping_nor_a_breathing_cell_nor_drift_is_motion(rng: np.random.Generator) -> None:
    frames, atoms = 200, 8
    fractional = rng.uniform(size=(atoms, 3)) + walks(rng, frames, atoms) / 10
    mean = np.array([[10.0, 0, 0], [3, 9, 0], [0, -2, 11]])
    breathing = (1 + 0.02 * np.sin(np.arange(frames)))[:, None, None] * mean
    mean = breathing.mean(axis=0)
    fixed = motion_of(fractional @ mean, np.tile(mean, (frames, 1, 1)))
    drifting = fractional + np.arange(frames)[:, None, None] * 0.01
    wrapped = motion_of((drifting % 1) @ breathing, breathing)
    one, other = ANALYSES["msd"](fixed), ANALYSES["msd"](wrapped)
    np.testing.assert_allclose(one.tables["msd"]["MSD Ar [A^2]"], other.tables["msd"]["MSD Ar [A^2]"], atol=1e-9)
    assert one.numbers == pytest.approx(other.numbers)


def test_atoms_that_stay_have_no_d(rng: np.random.Generator) -> None:
    """They rattle about their places."""
    x = rng.normal(scale=0.1, size=(200, 8, 3))
    with pytest.warns(UserWarning, match="argon: Ar does not diffuse in this time, it has no D"):
        found = ANALYSES["msd"](motion_of(x, np.tile(10 * np.eye(3), (200, 1, 1))))
    assert found.numbers == {"power of time Ar": pytest.approx(0, abs=0.05)}


def test_open_axes_are_left_alone(rng: np.random.Generator) -> None:
    x = walks(rng, 20, 4) * 50
    cell = np.tile(np.diag([5.0, 5.0, 0.0]), (20, 1, 1))
    pbc = np.array([True, True, False])
    x[:, :, :2] /= 50
    inside = x.copy()
    inside[:, :, :2] %= 5
    moved = unwrapped(inside, cell, pbc)
    np.testing.assert_allclose(np.diff(moved, axis=0), np.diff(x, axis=0), atol=1e-12)


def test_what_is_missing_is_said(rng: np.random.Generator) -> None:
    cell = np.tile(10 * np.eye(3), (100, 1, 1))
    with pytest.raises(ValueError, match="50 frames are too few; it takes 100"):
        ANALYSES["msd"](motion_of(walks(rng, 50, 3), cell[:50]))
    with pytest.raises(ValueError, match="does not say how much time lies between frames; give it with --spacing"):
        ANALYSES["msd"](motion_of(walks(rng, 100, 3), cell, spacing=None))
