"""Numbers about each structure."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from atomsml.dataset import Dataset, read_dataset
from atomsml.dataset.inspection.survey import Survey, survey


def of(path: Path, frames: list[ase.Atoms]) -> Survey:
    for atoms in frames:
        atoms.info.setdefault("energy", 0.0)
    ase.io.write(path, frames, format="extxyz")
    return survey(read_dataset(path))


def test_forces_and_volumes(dataset: Dataset, frames: list[ase.Atoms]) -> None:
    found = survey(dataset)
    for i, atoms in enumerate(frames):
        forces = dataset[i].atom_data["forces"].numpy()
        assert found.max_force[i] == pytest.approx(np.linalg.norm(forces, axis=1).max())
        assert found.mean_square_force[i] == pytest.approx(np.square(forces).sum() / len(atoms))
        assert found.net_force[i] == pytest.approx(np.linalg.norm(forces.sum(axis=0)), abs=1e-15)
        volume = atoms.get_volume() if atoms.pbc.all() else np.nan
        assert found.volume[i] == pytest.approx(volume, nan_ok=True)


@pytest.mark.parametrize("decimals", [2, 4, 6])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_rounding_explains_the_net_force_of_printed_forces(tmp_path: Path, decimals: int, kind: type) -> None:
    """The bound is six standard deviations wide, and not much wider than that."""
    rng = np.random.default_rng(decimals)
    frames = []
    for _ in range(50):
        atoms = ase.Atoms("H40", rng.normal(scale=20, size=(40, 3)))
        forces = rng.normal(size=(40, 3))
        atoms.arrays["forces"] = (forces - forces.mean(axis=0)).round(decimals).astype(kind).astype(float)
        frames.append(atoms)
    ratio = (found := of(tmp_path / "set.xyz", frames)).net_force / found.rounding
    assert ratio.max() < 1
    # written with eight digits at most; six deviations of one axis count for three axes together
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1 / 6, rel=0.3)


def test_missing_labels(tmp_path: Path) -> None:
    bare, some = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1]]), ase.Atoms("H2", [[0, 0, 0], [0, 0, 1]])
    some.arrays["forces"] = np.array([[0, 0, 1.0], [np.nan, 0, -1.0]])
    found = of(tmp_path / "set.xyz", [bare, some])
    assert np.isnan(found.max_force).all()
    assert np.isnan(found.net_force).all()
    assert found.incomplete_forces.tolist() == [False, True]
    assert np.isnan(found.stress).all()


def test_contacts_are_those_of_ase(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [
        ase.Atoms(rng.choice([1, 6, 8, 29, 55], 12), rng.uniform(0, 6, (12, 3)), cell=np.eye(3) * 6, pbc=pbc)
        for pbc in (True, False, (True, False, True)) * 5
    ]
    frames.append(bulk("Cu", a=1.3))  # too close to its own image
    found = of(tmp_path / "set.xyz", frames).contact
    for atoms, ratio in zip(frames, found, strict=True):
        i, j, distance = neighbor_list("ijd", atoms, 3.0)
        radii = covalent_radii[atoms.numbers]
        smallest = min(distance / (radii[i] + radii[j]), default=1.0)
        assert ratio == pytest.approx(smallest if smallest < 0.5 else 1.0, abs=1e-6)
    assert 0 < (found < 0.5).sum() < 16


def test_families_hold_what_differs_by_a_strain_alone(tmp_path: Path) -> None:
    silicon = bulk("Si", cubic=True)
    silicon.info["stress"] = np.eye(3)
    strain = np.eye(3) + np.random.default_rng(0).normal(scale=0.03, size=(3, 3))
    strained, shifted, rattled, unlabelled = (silicon.copy() for _ in range(4))
    strained.set_cell(silicon.cell.array @ strain, scale_atoms=True)
    shifted.set_cell(silicon.cell * 1.1, scale_atoms=True)
    shifted.positions += 1.234
    shifted.wrap()
    rattled.rattle(0.1)
    del unlabelled.info["stress"]
    family = of(tmp_path / "set.xyz", [silicon, strained, shifted, rattled, unlabelled]).family
    assert family[0] == family[1] == family[2] != family[3]
    assert family[4] == 0
