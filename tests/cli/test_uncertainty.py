"""`atomsml uncertainty`, and what the commands make of models that know how uncertain they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from atomsml import AtomsMLCalculator
from atomsml.modelfile import load, save

Run = Callable[..., Any]


@pytest.fixture
def committee(model: str, tmp_path: Path) -> str:
    """The folder of two models that differ in their last layers."""
    for i in range(2):
        (tmp_path / f"committee/member-{i}").mkdir(parents=True)
        potential = load(model)
        with torch.no_grad():
            for weight in potential.last_layer():
                weight += 0.1 * i * torch.linspace(-1, 1, len(weight))[:, None]
        save(potential, tmp_path / f"committee/member-{i}/model.safetensors", {})
    return "committee"


def write_labelled(path: Path, model: str, count: int, seed: int) -> None:
    """Shaken methanol with energies of `model`, a little wrong, and no forces."""
    rng = np.random.default_rng(seed)
    calc, frames = AtomsMLCalculator(model, precision="float64"), []
    for _ in range(count):
        atoms = molecule("CH3OH")
        atoms.info.clear()
        atoms.positions += rng.normal(0, 0.1, (6, 3))
        atoms.info["REF_energy"] = calc.get_property("energy", atoms) + rng.normal(0, 0.06)
        frames.append(atoms)
    ase.io.write(path, frames)


def test_energy_of_a_committee(run: Run, committee: str, tmp_path: Path) -> None:
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=0)
    ase.io.write(tmp_path / "copper.vasp", crystal)
    result = run("energy", "O", "copper.vasp", "-m", committee, "--json", "--precision", "float64", "-o", "out.extxyz")
    assert (result.status, result.err) == (0, "")
    water, copper = json.loads(result.out)
    written = ase.io.read("out.extxyz", ":")
    assert "stress_std" not in written[0].info
    for record, atoms in ((water, written[0]), (copper, written[1])):
        calc = AtomsMLCalculator(committee, precision="float64")
        calc.get_property("forces", atoms)
        assert record["energy_std"] == pytest.approx(calc.results["energy_std"], abs=1e-10)
        assert atoms.info["energy_std"] == pytest.approx(record["energy_std"], abs=1e-7)
        np.testing.assert_allclose(record["forces_std"], calc.results["forces_std"], rtol=0, atol=1e-8)
        np.testing.assert_allclose(atoms.arrays["forces_std"], record["forces_std"], rtol=0, atol=1e-7)
    assert len(written[1].info["stress_std"]) == 6
    hashes = json.loads(Path("out.summary.json").read_text())["model"]["sha256"]
    run("energy", "out.extxyz", "-m", f"{committee}/member-0/model.safetensors", "-o", "single.extxyz")
    for atoms in ase.io.read("single.extxyz", ":"):  # deviations of the committee must not stand beside other energies
        assert {*atoms.info, *atoms.arrays}.isdisjoint({"energy_std", "forces_std", "stress_std"})
    assert len(hashes) == 2
    assert hashes[0] != hashes[1]


def test_the_table_shows_it(run: Run, committee: str) -> None:
    header, line = run("energy", "O", "-m", committee).out.splitlines()
    assert header.endswith("max force eV/A  energy std eV  max force std eV/A")
    energy_std, force_std = line.split()[-2:]
    assert float(energy_std) > 0
    assert float(force_std) > 0
    assert "std" not in run("energy", "O", "-m", f"{committee}/member-0/model.safetensors").out


def test_trajectories_keep_it(run: Run, committee: str) -> None:
    result = run("md", "O", "-m", committee, "--steps", 2, "--interval", 1, "--timestep", 0.1, "-o", "md.extxyz")
    assert result.status == 0, result.err
    frames = ase.io.read("md.extxyz", ":")
    assert [frame.arrays["forces_std"].shape for frame in frames] == [(3, 3)] * 3
    assert len({frame.info["energy_std"] for frame in frames}) == 3


def test_last_layer_of_a_model(run: Run, model: str, tmp_path: Path) -> None:
    shutil.copy(model, "here.safetensors")
    write_labelled(tmp_path / "train.xyz", model, 20, seed=0)
    write_labelled(tmp_path / "valid.xyz", model, 15, seed=1)
    result = run("uncertainty", "here.safetensors", "--train", "train.xyz", "--valid", "valid.xyz")
    assert (result.status, result.err) == (0, "")
    assert "from 20 training and 15 validation structures" in result.out
    assert result.out.endswith("use it as a model: -m here.uncertainty.safetensors\n")
    (record,) = json.loads(run("energy", "CO", "-m", "here.uncertainty.safetensors", "--json").out)
    (plain,) = json.loads(run("energy", "CO", "-m", "here.safetensors", "--exact", "--json").out)
    assert record["energy_std"] > 0
    assert {**plain, "energy_std": record["energy_std"]} == record
    words = ("uncertainty", model, "--train", "train.xyz", "--valid", "valid.xyz", "-o", "u.safetensors", "--json")
    facts = json.loads(run(*words).out)
    assert (facts["file"], facts["train"], facts["valid"]) == ("u.safetensors", 20, 15)
    assert facts["rmse"] == pytest.approx(0.01, rel=0.75)  # 0.06 eV on six atoms; the error of 15 numbers is 18 %


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MODEL", "--train", "train.xyz"], "give --valid FILE, or the folder of a training run instead of the model"),
        (["MODEL"], "give --train FILE, or the folder of a training run instead of the model"),
        (["no-such-model", "--train", "train.xyz", "--valid", "train.xyz"], "unknown model 'no-such-model'"),
        (["."], "is no folder of a training run: it has no config.yaml"),
        ([".", "--train", "train.xyz"], "leave out --train and --valid"),
        (["MODEL", "--train", "train.xyz", "--valid", "train.xyz", "--energy-key", "E"], "no structure has the energy"),
        (["MODEL", "--train", "train.xyz", "--valid", "train.xyz", "-o", "."], "cannot write .: it is a folder"),
    ],
)
def test_bad_input_gets_one_line(run: Run, model: str, tmp_path: Path, words: list[str], message: str) -> None:
    write_labelled(tmp_path / "train.xyz", model, 2, seed=0)
    result = run("uncertainty", *(model if word == "MODEL" else word for word in words))
    assert (result.status, result.out) == (1, "")
    assert message in result.err
    assert len(result.err.splitlines()) == 1


def test_a_folder_that_is_no_committee(run: Run) -> None:
    result = run("energy", "O", "-m", ".")
    assert result.status == 1
    assert "is a folder without member-*/model.safetensors" in result.err
