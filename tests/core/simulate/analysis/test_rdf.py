"""Radial distributions against ASE's, against independent atoms, and against a crystal counted by hand."""

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.geometry.rdf import get_rdf

from atomsml.simulate.analysis import ANALYSES
from atomsml.simulate.analysis.coordination import first_valley, running_coordination
from atomsml.simulate.analysis.motion import motion_of_frames
from atomsml.simulate.analysis.rdf import first_peak, radial_distributions


def test_as_ase(rng: np.random.Generator) -> None:
    """Two elements in a triclinic cell; ASE counts up to half the cell only."""
    frames = []
    for _ in range(3):
        atoms = bulk("NaCl", "rocksalt", 5.6) * (4, 4, 4)
        atoms.rattle(0.3, rng=rng)
        frames.append(atoms)
    positions, cell = np.stack([a.positions for a in frames]), np.stack([a.cell.array for a in frames])
    r, found = radial_distributions(positions, cell, frames[0].numbers, reach=6.0, width=0.1)
    for name, pair in {"Na-Na": (11, 11), "Na-Cl": (11, 17), "Cl-Cl": (17, 17)}.items():
        expected, distances = get_rdf(frames, 6.0, 60, elements=pair)
        np.testing.assert_allclose(r, distances)
        np.testing.assert_allclose(found[name], expected, rtol=1e-9, err_msg=name)
    assert len(found) == 3


def test_independent_atoms_have_one(rng: np.random.Generator) -> None:
    """But for an atom itself; pairs in a bin are a Poisson number. Beyond half of the cell as well."""
    atoms, frames, length = 60, 40, 9.0
    cell = np.tile(np.diag([length] * 3), (frames, 1, 1))
    positions = rng.uniform(0, length, (frames, atoms, 3)) + length * rng.integers(-3, 4, (frames, atoms, 3))
    r, found = radial_distributions(positions, cell, np.full(atoms, 18), reach=8.0, width=0.5)
    shells = 4 / 3 * np.pi * ((r + 0.25) ** 3 - (r - 0.25) ** 3)
    inside = r < length / 2 - 0.25  # farther out one pair counts several times: no Poisson numbers
    expected = (1 - 1 / atoms) * np.ones(inside.sum())
    pairs = frames * atoms * (atoms - 1) / 2 * shells[inside] / length**3  # each is counted twice
    np.testing.assert_array_less(np.abs(found["Ar-Ar"][inside] - expected) * np.sqrt(pairs), 4.5)
    total = (found["Ar-Ar"] * shells).sum() * atoms / length**3
    assert total == pytest.approx((atoms - 1) * 4 / 3 * np.pi * 8.0**3 / length**3, rel=0.01)


def test_shells_of_a_crystal() -> None:
    atoms = bulk("Cu", "fcc", 3.6)
    motion = motion_of_frames([atoms] * 5, "copper", None)
    found = ANALYSES["coordination"](motion)
    assert found.numbers["Cu-Cu neighbours"] == pytest.approx(12)
    n = found.tables["coordination"]["n Cu-Cu"]
    r = found.tables["coordination"]["r [A]"]
    for distance, neighbours in ((3.0, 12), (4.0, 18), (4.8, 42), (5.4, 54)):
        assert n[np.searchsorted(r, distance)] == pytest.approx(neighbours)
    assert ANALYSES["rdf"](motion).numbers["Cu-Cu peak at [A]"] == pytest.approx(3.6 / 2**0.5, abs=0.05)


def test_the_running_number_of_independent_atoms_is_the_volume() -> None:
    r = np.arange(0.05, 5, 0.1)
    np.testing.assert_allclose(running_coordination(r, np.ones_like(r), 0.02), 0.02 * 4 / 3 * np.pi * (r + 0.05) ** 3)


def test_no_valley_without_a_peak() -> None:
    assert first_valley(np.full(50, 0.9)) is None
    assert first_valley(np.linspace(3, 0, 50)) is None


def test_the_first_peak_need_not_be_the_highest() -> None:
    g = np.zeros(60)
    g[10:13], g[30:33] = [2, 4, 2], [3, 6, 3]
    assert first_peak(g) == 11
    assert first_valley(g) == pytest.approx(21, abs=1)
    assert first_peak(0 * g) is None


def test_a_molecule_has_none() -> None:
    motion = motion_of_frames([ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])] * 3, "H2", None)
    for name in ("rdf", "coordination", "density"):
        with pytest.raises(ValueError, match="the system has no volume: it is not periodic along all axes"):
            ANALYSES[name](motion)
