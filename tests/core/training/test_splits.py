"""Training, validation and test sets: held out by content or group, weighted by file, never silently shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule

from atomsml.dataset import Dataset, content_hashes, read_dataset
from atomsml.training.config import TrainingConfig, config_from_values
from atomsml.training.splits import read_splits


def config(**data: Any) -> TrainingConfig:
    return config_from_values({"data": data, "max_steps": 1})


def contents(dataset: Dataset) -> set[int]:
    return set(content_hashes(dataset).tolist())


def test_numbers_and_fractions_are_held_out_of_the_training_set(water: Path) -> None:
    splits = read_splits(config(train=str(water), valid=6, test=4))
    assert [len(splits.named()[name]) for name in ("train", "valid", "test")] == [20, 6, 4]
    sets = [contents(dataset) for dataset in splits.named().values()]
    assert len(set.union(*sets)) == 30
    half = read_splits(config(train=str(water), valid=0.5))
    assert (len(half.train), len(half.valid), half.test) == (15, 15, None)


def test_a_fraction_of_a_small_set_is_a_number_and_at_least_one(water: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.extxyz"
    frames: list[Any] = ase.io.read(water, ":20")
    ase.io.write(few, frames, format="extxyz")
    for fraction, number in ((1e-9, 1), (0.05, 1), (0.2, 4), (0.3, 6)):
        by_fraction, by_number = (read_splits(config(train=str(few), valid=valid)) for valid in (fraction, number))
        assert len(by_fraction.valid) == number
        assert contents(by_fraction.valid) == contents(by_number.valid)  # the lowest hashes, either way
        assert contents(by_fraction.valid) == set(sorted(contents(read_dataset(few)))[:number])


def test_elements_of_what_is_held_out_stay_in_the_training_set(water: Path, tmp_path: Path) -> None:
    rare = tmp_path / "rare.extxyz"
    frames = [*ase.io.read(water, ":6"), *(molecule(name) for name in ("HCl", "CH4", "C2H6", "CO2"))]
    for i, atoms in enumerate(frames):
        atoms.info["REF_energy"] = -float(i)
    ase.io.write(rare, frames, format="extxyz")
    splits = read_splits(config(train=str(rare), valid=0.7))
    assert len(splits.valid) == 7
    assert 17 in splits.train.elements  # of which there is one structure
    assert set(splits.valid.elements) <= set(splits.train.elements)
    (warning,) = splits.warnings
    assert "stay in the training set" in warning
    assert "Cl" in warning
    with pytest.raises(ValueError, match=r"can be held out without taking an element.*--valid NUMBER"):
        read_splits(config(train=str(rare), valid=9))


def test_elements_of_isolated_atoms_alone_are_left_out(water: Path, tmp_path: Path) -> None:
    atoms = tmp_path / "atoms.extxyz"
    ase.io.write(atoms, [ase.Atoms(z, info={"REF_energy": -1.0}) for z in ("H", "O", "N", "F")], format="extxyz")
    splits = read_splits(config(train=[str(water), str(atoms)], valid=5))
    assert splits.train.elements == (1, 8)
    assert (splits.train.num_atoms == 1).sum() == 2
    (warning,) = splits.warnings
    assert warning.startswith("N F: only isolated atoms")
    with pytest.raises(ValueError, match="isolated atoms only"):
        read_splits(config(train=str(atoms), valid=str(water)))


def test_the_order_of_a_file_does_not_matter(water: Path, tmp_path: Path) -> None:
    shuffled = tmp_path / "shuffled.extxyz"
    frames: list[Any] = ase.io.read(water, ":")
    ase.io.write(shuffled, [frames[i] for i in np.random.default_rng(5).permutation(30)], format="extxyz")
    one, other = (read_splits(config(train=str(path), valid=0.3, test=5)) for path in (water, shuffled))
    assert contents(one.valid) == contents(other.valid)
    assert one.test is not None
    assert other.test is not None
    assert contents(one.test) == contents(other.test)


def test_frames_of_a_group_stay_together(water: Path, tmp_path: Path) -> None:
    frames: list[Any] = ase.io.read(water, ":")
    for i, atoms in enumerate(frames):
        atoms.info["trajectory"] = f"run {i // 3}"
    grouped = tmp_path / "grouped.extxyz"
    ase.io.write(grouped, frames, format="extxyz")
    splits = read_splits(config(train=str(grouped), valid=0.4, split_by="group"))
    assert not set(splits.train.groups) & set(splits.valid.groups)
    assert len(splits.train) % 3 == 0
    with pytest.raises(ValueError, match="have no group to split by"):
        read_splits(config(train=str(water), valid=0.4, split_by="group"))


def test_isolated_atoms_are_never_held_out(water: Path, tmp_path: Path) -> None:
    atoms = tmp_path / "atoms.extxyz"
    frames = [ase.Atoms(symbol, info={"REF_energy": -1.0}) for symbol in ("H", "O", "H", "O", "H", "O")]
    ase.io.write(atoms, frames, format="extxyz")
    for data in ({"valid": 29}, {"valid": 0.9}):
        splits = read_splits(config(train=[str(water), str(atoms)], **data))
        assert (splits.train.num_atoms == 1).sum() == 6
        assert (splits.valid.num_atoms == 1).sum() == 0


def test_weights_are_those_of_the_files(water: Path, crystals: Path) -> None:
    sources = [{"file": str(water), "weight": 0.5}, str(crystals)]
    splits = read_splits(config(train=sources, valid=str(water)))
    weights = [graph.system_data["weight"].item() for graph in splits.train]
    assert weights == [0.5] * 30 + [1.0] * 12
    assert splits.counts()[0] == {"set": "train", "structures": 42, "energy": 42, "forces": 42, "stress": 12}


def test_shared_structures_are_reported(water: Path) -> None:
    splits = read_splits(config(train=str(water), valid=str(water)))
    assert splits.warnings == ("30 of 30 structures of the valid set are in the training set as well",)
    assert read_splits(config(train=str(water), valid=6)).warnings == ()


def test_what_cannot_be_held_out_is_refused_with_the_file(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.info["REF_energy"] = -14.0
    ase.io.write(tmp_path / "single.extxyz", atoms, format="extxyz")
    with pytest.raises(ValueError, match=r"single\.extxyz: the valid set cannot have 1 structures: 0 of 1 can be held"):
        read_splits(config(train=str(tmp_path / "single.extxyz"), valid=0.2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": []}, "no training data"),
        ({"valid": []}, "a run needs validation data"),
        ({"valid": 30}, "data.valid must be files, a fraction between 0 and 1, or a number of structures below 30"),
        ({"valid": 0.0}, "data.valid must be files"),
        ({"test": 2.5}, "data.test must be files"),
        ({"test": 20, "valid": 15}, "data.valid must be files"),
    ],
)
def test_impossible_requests_are_refused(water: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_splits(config(**{"train": str(water), **data}))
