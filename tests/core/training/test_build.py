"""The model of a run is scaled to its data; references are found, fitted, given, or taken from a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import ase.io
import h5py
import numpy as np
import pytest
import torch

from atomsml.dataset import Columns, Dataset, LabelKeys, read_dataset
from atomsml.dataset.formats.storage import describe_source, write_dataset
from atomsml.electronic_state import ElectronicState
from atomsml.modelfile import save
from atomsml.training.build import reference_warnings, start_model, state_warnings
from atomsml.training.config import TrainingConfig, config_from_values
from atomsml.training.finetune import merge


@pytest.fixture
def with_atoms(water: Path, tmp_path: Path) -> Path:
    """Water and its atoms, alone, at -13 and -430 eV."""
    frames: list[Any] = ase.io.read(water, ":")
    for symbol, energy in (("H", -13.0), ("O", -430.0)):
        frames.append(ase.Atoms(symbol, info={"REF_energy": energy, "config_type": "IsolatedAtom"}))
        frames[-1].arrays["REF_forces"] = np.zeros((1, 3))
    path = tmp_path / "with_atoms.extxyz"
    ase.io.write(path, frames, format="extxyz")
    return path


def config(small: dict[str, Any], **values: Any) -> TrainingConfig:
    return config_from_values({"model_options": small, "max_steps": 1, **values})


def test_the_scale_is_that_of_the_data(water: Path, small: dict[str, Any]) -> None:
    potential, _ = start_model(config(small), read_dataset(water))
    forces = np.concatenate([atoms.arrays["REF_forces"] for atoms in ase.io.read(water, ":")])
    assert potential.config.scale == pytest.approx(np.sqrt((forces**2).mean()))
    assert potential.config.avg_num_neighbors == 2.0
    assert potential.elements == (1, 8)
    given, _ = start_model(config({**small, "scale": 3.0, "elements": [1, 6, 8]}), read_dataset(water))
    assert given.config.scale == 3.0
    assert given.elements == (1, 6, 8)


def test_energies_alone_scale_by_their_spread(water: Path, small: dict[str, Any]) -> None:
    dataset = read_dataset(water)
    without = read_dataset(water, type(dataset.found[0].keys)(forces=""))
    potential, _ = start_model(config(small), without)
    # one composition: the references take up the mean
    assert potential.config.scale == pytest.approx((dataset.energy / 3).std(), rel=1e-6)


@pytest.mark.parametrize("label", ["REF_energy", "REF_forces"])
def test_labels_too_large_to_train_on_are_refused_with_their_file(
    water: Path, tmp_path: Path, small: dict[str, Any], label: str
) -> None:
    frames: list[Any] = ase.io.read(water, ":")
    (frames[3].info if label in frames[3].info else frames[3].arrays)[label] *= 1e10
    path = tmp_path / "extreme.extxyz"
    ase.io.write(path, frames, format="extxyz")
    with pytest.raises(ValueError, match=r"extreme\.extxyz: the .* can be trained on; correct or remove .*data info"):
        start_model(config(small, references="zero"), read_dataset(path))


def test_references(water: Path, with_atoms: Path, small: dict[str, Any]) -> None:
    isolated, kind = start_model(config(small), read_dataset(with_atoms))
    assert kind == "isolated atoms"
    assert isolated.references.tolist() == [-13.0, -430.0]
    bound = read_dataset(water).energy.mean() + 2 * 13 + 430
    assert isolated.config.shift == pytest.approx(bound / 3)  # per atom; the atoms alone do not count
    fitted, kind = start_model(config(small), read_dataset(water))
    assert kind == "least squares"
    assert fitted.config.shift == pytest.approx(0, abs=1e-9)
    assert (fitted.references * torch.tensor([2, 1])).sum().item() == pytest.approx(read_dataset(water).energy.mean())
    zero, _ = start_model(config(small, references="zero"), read_dataset(water))
    assert zero.references.tolist() == [0.0, 0.0]
    values = {"references": "given", "reference_energies": {"H": -1.0, "O": -2.0}}
    given, _ = start_model(config(small, **values), read_dataset(water))
    assert given.references.tolist() == [-1.0, -2.0]


def test_isolated_atoms_that_lack_or_disagree_are_named_and_not_fitted(
    water: Path, with_atoms: Path, small: dict[str, Any]
) -> None:
    clean, _ = start_model(config(small), read_dataset(water))
    dataset = read_dataset(with_atoms)
    lacking = dataset.subset(np.arange(31))  # without the oxygen atom
    potential, kind = start_model(config(small), lacking)
    assert (kind, potential.references.tolist()) == ("least squares", clean.references.tolist())
    (warning,) = reference_warnings(config(small), lacking, kind)
    assert warning.startswith("no isolated atom of O in the data")
    assert "the isolated atoms are left out" in warning
    assert reference_warnings(config(small), dataset, "isolated atoms") == []
    assert reference_warnings(config(small), read_dataset(water), "least squares") == []
    frames: list[Any] = ase.io.read(with_atoms, ":")
    frames.append(ase.Atoms("O", info={"REF_energy": -432.0}))
    ase.io.write(with_atoms, frames, format="extxyz")
    potential, kind = start_model(config(small), read_dataset(with_atoms))
    assert (kind, potential.references.tolist()) == ("least squares", clean.references.tolist())
    (warning,) = reference_warnings(config(small), read_dataset(with_atoms), kind)
    assert warning.startswith("isolated atoms of O have energies [-432.0, -430.0]; keep one")


def test_forces_alone_have_references_of_zero(water: Path, small: dict[str, Any]) -> None:
    dataset = read_dataset(water, LabelKeys(energy=""))
    potential, kind = start_model(config(small), dataset)
    assert (kind, potential.references.tolist(), potential.config.shift) == ("zero", [0.0, 0.0], 0.0)
    (warning,) = reference_warnings(config(small), dataset, kind)
    assert "mean nothing absolute" in warning


def test_a_model_to_go_on_from_keeps_its_weights(water: Path, tmp_path: Path, small: dict[str, Any]) -> None:
    base, _ = start_model(config(small, references="zero"), read_dataset(water))
    save(base, tmp_path / "base.safetensors", {"references_kind": "zero"})
    finetune = {"finetune": {"model": str(tmp_path / "base.safetensors")}}
    same, kind = start_model(config(small, references="model", **finetune), read_dataset(water))
    assert kind == "zero"  # that of the base
    assert same.references.tolist() == [0.0, 0.0]
    for ours, theirs in zip(same.parameters(), base.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    moved, kind = start_model(config(small, **finetune), read_dataset(water))
    assert kind == "least squares"
    assert moved.references.abs().max() > 0


def test_the_seed_decides_the_weights(water: Path, small: dict[str, Any]) -> None:
    dataset = read_dataset(water)
    one, again, other = (start_model(config(small, seed=seed), dataset)[0].embedding for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"references": "given", "reference_energies": {"H": -1.0}}, "references: given lacks O"),
        ({"references": "model"}, "references: model needs finetune.model"),
        ({"references": "isolated atoms"}, "no isolated atom"),
        ({"model_options": {"elements": [1, 6]}}, "the model does not know O"),
        ({"model_options": {"lmax": 99}}, "lmax must be at most 6"),
    ],
)
def test_what_does_not_fit_is_refused(water: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start_model(config_from_values({"max_steps": 1, **values}), read_dataset(water))


def stating(water: Path, path: Path, *states: dict[str, int]) -> Path:
    """The same structures, which state a charge and a spin in turn."""
    frames: list[Any] = ase.io.read(water, ":")
    for i, atoms in enumerate(frames):
        atoms.info |= states[i % len(states)]
    ase.io.write(path, frames, format="extxyz")
    return path


def test_a_model_holds_for_what_all_its_data_state(water: Path, tmp_path: Path, small: dict[str, Any]) -> None:
    def state_of(path: Path, **values: Any) -> ElectronicState:
        return start_model(config(small, **values), read_dataset(path))[0].electronic_state

    neutral = stating(water, tmp_path / "neutral.extxyz", {"charge": 0, "spin": 1})
    mixed = stating(water, tmp_path / "mixed.extxyz", {"charge": 0, "spin": 1}, {"charge": 1, "spin": 1})
    partly = stating(water, tmp_path / "partly.extxyz", {"charge": 0}, {})
    assert state_of(neutral) == ElectronicState(0, 1)
    assert state_of(mixed) == ElectronicState(None, 1)
    assert state_of(partly) == state_of(water) == ElectronicState()
    assert state_of(water, charge=-1, spin=2) == ElectronicState(-1, 2)
    with pytest.raises(ValueError, match=r"^the config says charge 1, the training data 0; correct one of them$"):
        state_of(neutral, charge=1)
    assert state_warnings(read_dataset(neutral)) == state_warnings(read_dataset(partly)) == []
    (warning,) = state_warnings(read_dataset(mixed))
    assert warning == "the training set has structures of charge 0, 1, which a potential cannot tell apart"
    write_dataset(packed := tmp_path / "packed.h5", *packing(read_dataset(neutral)))
    assert state_of(packed) == ElectronicState(0, 1)


def packing(dataset: Dataset) -> tuple[list[Columns], list[dict[str, Any]]]:
    return [columns for _, columns in dataset.blocks()], [describe_source(found) for found in dataset.found]


def test_plain_hdf5_states_charges_in_arrays(water: Path, tmp_path: Path, small: dict[str, Any]) -> None:
    dataset = read_dataset(water)
    columns = dataset.columns(np.arange(len(dataset)))
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file.update({"offsets": columns.offsets, "numbers": columns.numbers, "positions": columns.positions})
        file.update({"energy": columns.energy, "forces": columns.forces, "charge": np.full(len(columns), -2.0)})
    assert start_model(config(small), read_dataset(tmp_path / "plain.h5"))[0].electronic_state == ElectronicState(-2)


@pytest.mark.parametrize("method", ["naive", "lora"])
def test_fine_tuning_keeps_what_a_model_holds_for_unless_the_data_say_more(
    water: Path, tmp_path: Path, small: dict[str, Any], method: str
) -> None:
    before, _ = start_model(config(small, charge=0, spin=1), read_dataset(water))
    save(before, tmp_path / "before.safetensors", {})
    tuning = {"finetune": {"model": str(tmp_path / "before.safetensors"), "method": method}}
    radicals = stating(water, tmp_path / "radicals.extxyz", {"charge": 1, "spin": 2})
    for path, state in ((water, ElectronicState(0, 1)), (radicals, ElectronicState(1, 2))):
        tuned, _ = start_model(config(small, **tuning), read_dataset(path))
        assert tuned.electronic_state == merge(tuned).electronic_state == state
