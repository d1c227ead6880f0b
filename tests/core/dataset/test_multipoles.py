"""Labels of charges, dipoles and quadrupoles: read under their names, kept where some structures lack them."""

from pathlib import Path

import ase
import ase.io
import h5py
import numpy as np
import pytest
from ase.build import molecule

from atomsml.dataset import Dataset, LabelKeys, read_dataset
from atomsml.dataset.formats.storage import write_dataset

MOMENT = np.array([[3.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 2.0]])
TRACELESS = MOMENT - 2.0 * np.eye(3)


def frames() -> list[ase.Atoms]:
    """Water with all labels, one with charges only, one with none."""
    images = [molecule("H2O") for _ in range(3)]
    for i, atoms in enumerate(images):
        atoms.info["REF_energy"] = -float(i)
    for atoms in images[:2]:
        atoms.arrays["mbis_charges"] = np.array([-0.8, 0.4, 0.4])
    images[0].info |= {"REF_dipole": np.array([0.0, 0.0, -0.4]), "REF_quadrupole": MOMENT.ravel()}
    return images


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "set.extxyz"
    ase.io.write(path, frames(), format="extxyz")
    return path


def check(dataset: Dataset) -> None:
    assert dataset.label_counts() == {
        "energy": 3, "forces": 0, "stress": 0, "charges": 2, "dipole": 1, "quadrupole": 1,
    }  # fmt: skip
    graph = dataset.batch(np.arange(3))
    assert graph.atom_data["charges"][:6].tolist() == [-0.8, 0.4, 0.4] * 2
    assert graph.atom_data["charges"][6:].isnan().all()
    assert graph.system_data["dipole"][0].tolist() == [0.0, 0.0, -0.4]
    assert graph.system_data["quadrupole"][0].numpy() == pytest.approx(TRACELESS, abs=1e-12)
    assert graph.system_data["dipole"][1:].isnan().all()


def test_they_are_read_only_when_they_are_asked_for(file):
    assert read_dataset(file).label_counts() == {"energy": 3, "forces": 0, "stress": 0}
    dataset = read_dataset(file, LabelKeys().with_multipoles())
    check(dataset)
    keys = dataset.found[0].keys
    assert (keys.charges, keys.dipole, keys.quadrupole) == ("mbis_charges", "REF_dipole", "REF_quadrupole")
    named = read_dataset(file, LabelKeys(dipole="REF_dipole"))
    assert named.multipoles == ("dipole",)
    assert any("dipole = REF_dipole, on 1 of 3" in line for line in named.found[0].lines())


def test_they_may_be_all_that_there_is(tmp_path):
    atoms = molecule("H2O")
    atoms.info["REF_dipole"] = np.array([0.0, 0.0, -0.4])
    ase.io.write(tmp_path / "set.extxyz", atoms, format="extxyz")
    dataset = read_dataset(tmp_path / "set.extxyz", LabelKeys(energy="").with_multipoles())
    assert dataset.label_counts()["dipole"] == 1
    with pytest.raises(ValueError, match="neither energies nor forces"):
        read_dataset(tmp_path / "set.extxyz", LabelKeys(energy=""))


def test_a_packed_set_keeps_them(file, tmp_path):
    dataset = read_dataset(file, LabelKeys().with_multipoles())
    bare = read_dataset(file)  # what comes first has none
    path = tmp_path / "set.h5"
    write_dataset(path, [columns for part in (bare, dataset) for _, columns in part.blocks()])
    stored = read_dataset(path)
    check(stored.subset([3, 4, 5]))
    check(read_dataset(path, LabelKeys(dipole="dipole")).subset([5, 4, 3]).subset([2, 1, 0]))
    assert stored.batch(np.arange(3)).atom_data["charges"].isnan().all()


def test_plain_hdf5(tmp_path):
    water = molecule("H2O")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["offsets"], file["numbers"] = [0, 3, 6], np.tile(water.numbers, 2)
        file["positions"] = np.tile(water.positions, (2, 1))
        file["energy"], file["charges"] = [0.0, 1.0], [-0.8, 0.4, 0.4] * 2
        file["dipole"], file["quadrupole"] = np.ones((2, 3)), np.stack([MOMENT, MOMENT])
    dataset = read_dataset(tmp_path / "plain.h5", LabelKeys().with_multipoles())
    assert dataset.label_counts()["quadrupole"] == 2
    assert dataset[1].system_data["quadrupole"][0].numpy() == pytest.approx(TRACELESS, abs=1e-12)
    with h5py.File(tmp_path / "plain.h5", "r+") as file:
        del file["dipole"]
        file["dipole"] = np.ones((2, 4))
    with pytest.raises(ValueError, match=r"dipole must have shape \(2, 3\), got \(2, 4\)"):
        read_dataset(tmp_path / "plain.h5", LabelKeys().with_multipoles())


def test_sets_with_and_without_them_go_together(file):
    joined = Dataset.concatenate([read_dataset(file), read_dataset(file, LabelKeys().with_multipoles())])
    check(joined.subset([3, 4, 5]))
    alone = joined.batch(np.array([0]))
    assert set(alone.atom_data) == {"forces", "charges"}  # so that any two structures make a batch
    plain = read_dataset(file)
    assert plain.digest() != joined.subset([3, 4, 5]).digest()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("REF_dipole", np.ones(4), r"REF_dipole: dipole of 3 atoms must be 3 numbers, got shape \(4,\)"),
        ("REF_dipole", "large", "REF_dipole: must hold numbers, got 'large'"),
        ("REF_dipole", np.array([1e300, 0, 0]), "dipole beyond 1e.12 in e and A"),
        ("REF_quadrupole", np.ones(5), "REF_quadrupole: it must have 3 x 3, 9 or 6 numbers"),
    ],
)
def test_wrong_shapes(tmp_path, name, value, message):
    atoms = frames()[1]
    atoms.info[name] = value
    ase.io.write(tmp_path / "set.extxyz", atoms, format="extxyz")
    with pytest.raises(ValueError, match=message):
        read_dataset(tmp_path / "set.extxyz", LabelKeys().with_multipoles())
