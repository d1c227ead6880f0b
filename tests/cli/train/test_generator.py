"""`atomsml train` of a generator: from molecules to a model that other commands know, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
import yaml
from ase.build import molecule

from atomsml.cli.main import main
from atomsml.generative import GENERATORS
from atomsml.generative.core.training.config import generator_config
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.proteins.io import read_chains
from atomsml.yaml_file import read_mapping

Run = Callable[..., Any]
TINY = [
    *("-m", "edm", "--set", "model_options={channels: 4, num_layers: 1}", "--set", "batch.samples=4"),
    *("--set", "judge.samples=3", "--set", "judge.steps=2"),
]


@pytest.fixture
def molecules(tmp_path: Path) -> Path:
    ase.io.write(tmp_path / "m.extxyz", [molecule(name) for name in ("H2O", "CH4", "CH3OH", "C2H6", "H2CO", "HCN")])
    return tmp_path / "m.extxyz"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A generator that has seen a few molecules for two steps."""
    folder = tmp_path_factory.mktemp("trained")
    ase.io.write(folder / "m.extxyz", [molecule(name) for name in ("H2O", "CH4", "CH3OH", "C2H6")])
    words = ["--train", str(folder / "m.extxyz"), "--valid", "1", "--max-steps", "2", "-o", str(folder / "run")]
    with pytest.raises(SystemExit):
        main(["train", *words, *TINY])
    return str(folder / "run" / "model.safetensors")


def test_a_molecule_that_cannot_be_learnt_from_is_named_by_file_and_place(run: Run, molecules: Path) -> None:
    ase.io.write("more.extxyz", [molecule("CH4"), molecule("H2")])
    result = run(
        "train", "-m", "flow", "--train", molecules, "--train", "more.extxyz", "--valid", molecules, "-o", "out"
    )
    assert result.status == 1
    where = "error: the training set: more.extxyz: molecule 1 (counted from 0): a molecule without heavy atoms"
    assert result.err.splitlines()[-1].startswith(where)


def test_from_a_config_to_a_generator_and_its_molecules(run: Run, molecules: Path) -> None:
    values = {"model": "flow", "data": {"train": str(molecules), "valid": 2}, "max_steps": 50}
    Path("config.yaml").write_text(yaml.safe_dump(values))
    done = run("train", "config.yaml", "--max-steps", 3, "--seed", 5, "-o", "out", *TINY, "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert json.loads(Path("out/summary.json").read_text()) == result
    assert (result["architecture"], result["steps"], result["seed"]) == ("edm", 3, 5)
    assert result["data"] == {"train": 4, "valid": 2}
    assert result["samples"]["drawn"] == len(ase.io.read("out/samples.extxyz", ":")) == 3
    written = generator_config(read_mapping("out/config.yaml"))
    assert (written.model, written.max_steps, written.data.valid) == ("edm", 3, 2.0)
    generator = load_generator("out/model.safetensors")
    assert type(generator) is GENERATORS["edm"]
    assert result["parameters"] == sum(p.numel() for p in generator.parameters())
    log = Path("out/train.log").read_text()
    assert "train: 4 molecules of " in log
    assert "edm: " in log
    assert "step       3" in log


def test_resuming_reads_the_config_of_the_run(run: Run, molecules: Path) -> None:
    first = run("train", "--train", molecules, "--valid", 2, "--max-steps", 2, "-o", "out", *TINY)
    assert first.status == 0, first.err
    assert "stable" in first.out
    before = load_generator("out/model.safetensors").state_dict()
    done = run("train", "--resume", "-o", "out", "--max-steps", 4)
    assert done.status == 0, done.err
    assert "resumed at step 2" in done.err
    after = load_generator("out/model.safetensors").state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("model", ["flow", "edm"])
def test_init_prints_a_config_of_the_generator(run: Run, model: str) -> None:
    done = run("train", "--init", "-m", model)
    assert done.status == 0
    values = yaml.safe_load(done.out)
    assert generator_config(values).model == model
    assert values["max_minutes"] == 60.0


def test_other_commands_know_a_generator(run: Run, trained: str) -> None:
    about = json.loads(run("info", trained, "--json").out)
    assert (about["kind"], about["architecture"]) == ("generator of molecules", "edm")
    assert about["elements"] == ["H", "C", "O"]
    Path("o.xyz").write_text("1\n\nO 0 0 0\n")
    done = run("relax", "o.xyz", "-m", trained)
    assert done.status == 1
    assert "is a generator of molecules, not a potential; draw molecules with `atomsml generate molecules" in done.err
    assert done.err.count("\n") == 1


def test_a_potential_generates_nothing(run: Run) -> None:
    done = run("generate", "molecules", "-n", 1, "-m", "organic-xtb")
    assert done.status == 1
    assert "organic-xtb is a potential, not a generator" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "edm"], "no training data; give data.train in the config, or --train FILE"),
        (["-m", "edm", "--train", "missing.sdf"], "no file missing.sdf; check the path"),
        (["-m", "edn", "--train", "DATA"], "unknown model 'edn'; did you mean 'edm'? there are the potentials"),
        (["-m", "edm", "--train", "DATA", "--energy-key", "E"], "edm is a generator, which learns from no labels"),
        (["-m", "edm", "--train", "DATA", "--committee", "2"], "a committee is one of potentials"),
        (["-m", "edm", "--train", "DATA", "--finetune", "organic-xtb"], "unknown config keys ['finetune']"),
        (["-m", "edm", "--train", "DATA", "--test", "0.1"], "unknown config keys ['data.test']"),
        (["-m", "edm", "--train", "DATA", "--valid", "9"], "a number of samples below 6"),
        (["-m", "edm", "--train", "DATA", "--set", "conditions=[gap]"], "has no property 'gap'"),
    ],
)
def test_bad_requests_get_one_line(run: Run, molecules: Path, words: list[str], message: str) -> None:
    words = [str(molecules) if word == "DATA" else word for word in words]
    done = run("train", *words, "-o", "out")
    assert done.status == 1
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not Path("out").exists()


TINY_BACKBONES = [
    *("-m", "backbone-flow", "--set", "batch.samples=4", "--set", "judge.samples=2", "--set", "judge.steps=2"),
    "--set",
    "model_options={network: {channels: 8, pair_channels: 8, num_heads: 2, head_channels: 4, query_points: 2, "
    "value_points: 2, hidden: 8, num_layers: 1}}",
]


def test_a_folder_of_proteins_makes_a_generator_of_backbones(run: Run, tmp_path: Path) -> None:
    (tmp_path / "proteins").mkdir()
    for name in ("1aap", "1brf", "1guu"):
        path = Path(__file__).parents[2] / "data" / "proteins" / f"{name}.pdb.gz"
        (tmp_path / "proteins" / path.name).symlink_to(path)
    (tmp_path / "proteins" / "bad.pdb").write_text("")
    done = run("train", "--train", "proteins", "--valid", 0.3, "--max-steps", 2, "-o", "out", *TINY_BACKBONES, "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    log = Path("out/train.log").read_text()
    assert "train: 8 windows of 40 to 53 residues, of 2 different chains" in log
    assert "valid: 6 windows of 40 to 56 residues, of 1 different chains" in log
    assert "warning: left out proteins/bad.pdb: holds no backbone of a protein" in log
    assert (result["architecture"], result["data"]) == ("backbone-flow", {"train": 8, "valid": 6})
    models = [chain.where for chain in read_chains("out/samples.pdb", split=False)]
    assert models == [f"out/samples.pdb, model {number}" for number in (1, 2)]


def test_nothing_to_learn_backbones_from_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "water.pdb").write_text("HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00\n")
    for name, message in (
        ("empty", "error: empty: has no file of proteins; give .pdb"),
        (
            "water.pdb",
            "error: water.pdb: has no compact chain of 40 bonded residues or more; left out water.pdb: holds",
        ),
        ("none.pdb", "error: no file or folder none.pdb; check the path"),
    ):
        done = run("train", "--train", name, "--max-steps", 2, "-o", "out", *TINY_BACKBONES)
        assert done.status == 1
        assert done.err.startswith(message)
        assert not Path("out").exists()
