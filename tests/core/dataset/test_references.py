"""Reference energies of the elements."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule

from atomsml.dataset import Dataset, isolated_atom_references, least_squares_references, read_dataset
from atomsml.dataset.references import fit_compositions

TRUTH = {1: -13.6, 6: -1030.0, 8: -2040.0}


def labelled(path: Path, frames: list[ase.Atoms], energies: np.ndarray) -> Dataset:
    for atoms, energy in zip(frames, energies, strict=True):
        atoms.info["REF_energy"] = energy
    ase.io.write(path, frames, format="extxyz")
    return read_dataset(path)


@pytest.fixture
def molecules() -> list[ase.Atoms]:
    return [molecule(name) for name in ("H2O", "CH4", "H2", "CO2", "CH3OH", "C2H6")]


def compositions(frames: list[ase.Atoms], elements: tuple[int, ...]) -> np.ndarray:
    return np.array([[(a.numbers == z).sum() for z in elements] for a in frames], dtype=float)


def test_additive_energies_are_recovered_and_others_get_zero(tmp_path: Path, molecules: list[ase.Atoms]) -> None:
    energies = compositions(molecules, (1, 6, 8)) @ list(TRUTH.values())
    energies[2] = np.nan  # a structure without an energy does not count
    dataset = labelled(tmp_path / "set.xyz", molecules, energies)
    found = least_squares_references(dataset, (1, 6, 7, 8))
    np.testing.assert_allclose(found, [-13.6, -1030.0, 0.0, -2040.0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("per_atom", [False, True])
def test_the_fit_is_that_of_numpy(tmp_path: Path, molecules: list[ase.Atoms], per_atom: bool) -> None:
    energies = np.random.default_rng(0).normal(size=6)
    dataset = labelled(tmp_path / "set.xyz", molecules, energies)
    counts = compositions(molecules, (1, 6, 8))
    sizes = counts.sum(axis=1)
    values = energies if per_atom else energies / sizes
    solution, residual, *_ = np.linalg.lstsq(counts / sizes[:, None], values)
    found, error = fit_compositions(dataset, (1, 6, 8), per_atom)
    np.testing.assert_allclose(found, solution, rtol=1e-6)
    assert error == pytest.approx(np.sqrt(residual[0]) / np.linalg.norm(values), rel=1e-6)


def test_elements_that_always_come_together_share_their_energy(tmp_path: Path) -> None:
    """NaCl alone does not tell Na from Cl: the least norm gives both the same."""
    salts = [ase.Atoms("NaCl" * n, np.arange(6.0 * n).reshape(-1, 3)) for n in (1, 2, 3)]
    dataset = labelled(tmp_path / "set.xyz", salts, np.array([-8.0, -16.0, -24.0]))
    np.testing.assert_allclose(least_squares_references(dataset, (11, 17)), [-4.0, -4.0])


def test_isolated_atoms_are_found_by_openness_or_by_name(tmp_path: Path) -> None:
    hydrogen, oxygen = ase.Atoms("H"), ase.Atoms("O", cell=[20, 20, 20], pbc=True)
    oxygen.info["config_type"] = "IsolatedAtom"
    crystal = ase.Atoms("O", cell=[2, 2, 2], pbc=True)  # one atom, but not isolated
    dataset = labelled(
        tmp_path / "set.xyz", [crystal, hydrogen, oxygen, molecule("H2O")], np.array([-1.0, -13.6, -430.0, -470.0])
    )
    np.testing.assert_array_equal(isolated_atom_references(dataset, (1, 8)), [-13.6, -430.0])
    with pytest.raises(ValueError, match="no isolated atom of C"):
        isolated_atom_references(dataset, (1, 6, 8))
    with pytest.raises(ValueError, match="no isolated atom of H"):
        isolated_atom_references(dataset.subset([3]), (1, 8))


def test_isolated_atoms_that_disagree(tmp_path: Path) -> None:
    dataset = labelled(tmp_path / "set.xyz", [ase.Atoms("H"), ase.Atoms("H")], np.array([-13.6, -12.0]))
    with pytest.raises(ValueError, match=r"isolated atoms of H have energies \[-13.6, -12.0\]"):
        isolated_atom_references(dataset, (1,))


def test_what_cannot_be_fitted(tmp_path: Path, molecules: list[ase.Atoms]) -> None:
    dataset = labelled(tmp_path / "set.xyz", molecules, np.full(6, np.nan))
    with pytest.raises(ValueError, match="no structure has one"):
        least_squares_references(dataset, (1, 6, 8))
    with pytest.raises(ValueError, match=r"elements \[8\] that are not among"):
        least_squares_references(dataset, (1, 6))
