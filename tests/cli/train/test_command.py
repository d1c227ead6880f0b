"""`atomsml train`: from labelled structures to a model, a report, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import pytest
import yaml

from atomsml.modelfile import read_metadata
from atomsml.potentials import POTENTIALS
from atomsml.training.config import TrainingConfig, config_from_values
from atomsml.yaml_file import read_mapping

TINY = ["--set", "model_options={channels: 4, lmax: 1, hidden_lmax: 0, correlation: 2, radial_mlp: [4], cutoff: 3.0}"]


def test_from_files_to_a_model_and_a_report(run, data: Path) -> None:
    done = run(
        "train", "--train", data, "--valid", 4, "--test", 4, "--max-steps", 6, "--seed", 3, "-o", "out", *TINY, "--json"
    )
    assert done.status == 0, done.err
    result = json.loads(done.out)
    folder = data.parent / "out"
    assert json.loads((folder / "summary.json").read_text()) == result
    assert result["set"] == "test"
    assert set(result["errors"]) <= {"a", "b", "all"}
    assert result["errors"]["all"]["structures"] == 4
    assert [row["structures"] for row in result["data"]] == [12, 4, 4]
    assert result["seed"] == 3
    for name in ("model.safetensors", "report.html", "learning_curves.png", "parity.png", "metrics.csv", "train.log"):
        assert (folder / name).stat().st_size > 0
    assert "energy = dft_energy, on 20 of 20" in done.err
    judged = run("evaluate", "out/model.safetensors", data, "--json")
    assert judged.status == 0
    assert "forces_mae" in json.loads(judged.out)["errors"]["all"]


def test_a_finished_run_goes_on_with_more_steps(run, data: Path) -> None:
    words = ["train", "--train", data, "--valid", 4, "-o", "out", *TINY]
    assert run(*words, "--max-steps", 3).status == 0
    again = run(*words, "--max-steps", 6)
    assert again.status == 1
    assert "out holds a run already; add --resume" in again.err
    resumed = run("train", "--resume", "-o", "out", "--max-steps", 6, "--json")
    assert resumed.status == 0, resumed.err
    assert "resumed at step 3" in resumed.err
    assert json.loads(resumed.out)["steps"] == 6
    other = run("train", "--resume", "-o", "out", "--max-steps", 9, "--set", "loss.energy=5")
    assert other.status == 1
    assert "belongs to a run with other data, model or loss" in other.err


def test_errors_about_settings_name_their_file(run, data: Path) -> None:
    values = {"data": {"train": [str(data)], "valid": 4}, "max_steps": 1, "model_options": {"correlation": 1000}}
    Path("settings.yaml").write_text(yaml.safe_dump(values))
    refused = run("train", "settings.yaml", "-o", "out")
    assert refused.status == 1
    assert refused.err == "error: settings.yaml: correlation must be at most 6, got 1000\n"


def test_structures_that_cannot_be_used_are_left_out_and_said(run, data: Path) -> None:
    data.write_text(data.read_text() + "1\ndft_energy\nH 0 0 0\n1\ndft_energy=1\nQq 0 0 0\n")
    words = ["train", "--train", data, "--valid", 4, "--max-steps", 1, "-o", "out", *TINY]
    done = run(*words, "--json")
    assert done.status == 1
    before, _, after = done.err.partition("epoch ")
    assert "2 structures cannot be used and are left out:\n" in before
    assert f"  {data}, frame 20: dft_energy: must hold numbers, got a word without a value" in before
    assert "2 structures were left out" in after
    assert [each["index"] for each in json.loads(done.out)["failed"]] == [20, 21]
    assert (data.parent / "out" / "model.safetensors").exists()
    done = run(*words[: -len(TINY) - 1], "other", *TINY, "--strict")
    assert done.status == 1
    assert f"error: {data}, frame 20: dft_energy" in done.err
    assert not (data.parent / "other").exists()


def test_forces_alone(run, data: Path) -> None:
    words = ["--valid", 4, "--energy-key", "", "--max-steps", 2, "-o", "out", "--json"]
    done = run("train", "--train", data, *words, *TINY)
    assert done.status == 0, done.err
    assert "train: 16 structures with labels: 0 energy, 16 forces" in done.err
    errors = json.loads(done.out)["errors"]["all"]
    assert errors["energies"] == 0
    assert errors["forces_mae"] > 0
    assert "energies mean nothing absolute" in read_metadata("out/model.safetensors")["energies"]
    judged = run("evaluate", "out/model.safetensors", data, "--energy-key", "")
    assert judged.status == 0, judged.err
    assert "E MAE" not in judged.out


def test_the_uncertainty_of_a_run_wants_the_data_of_the_run(run, data: Path) -> None:
    assert run("train", "--train", data, "--valid", 8, "--max-steps", 2, "-o", "out", *TINY).status == 0
    done = run("uncertainty", "out", "-o", "sure.safetensors")
    assert done.status == 0, done.err
    assert "from 12 training and 8 validation structures" in done.out
    frames: list[Any] = ase.io.read(data, ":")
    frames[0].positions[0] += 0.1
    ase.io.write(data, frames, format="extxyz")
    done = run("uncertainty", "out", "-o", "unsure.safetensors")
    assert done.status == 1
    assert "error: out: its data have changed since" in done.err


def test_a_committee_acts_as_one(run, data: Path) -> None:
    done = run("train", "--train", data, "--valid", 4, "--max-steps", 2, "--committee", 2, "-o", "out", *TINY)
    assert done.status == 0, done.err
    energy = run("energy", data, "--model", "out", "--json")
    assert energy.status == 0, energy.err
    assert json.loads(energy.out)[0]["energy_std"] > 0


def test_the_starter_config_is_the_default(run) -> None:
    printed = run("train", "--init")
    assert printed.status == 0
    values = yaml.safe_load(printed.out)
    config = config_from_values(values)
    assert config.data.train[0].file == "train.extxyz"
    assert config_from_values({"data": {"train": "train.extxyz"}, "max_minutes": 60}) == config
    assert printed.out.splitlines()[1] == f"# Architectures, for the key model: {', '.join(POTENTIALS)}."
    undocumented = [line for line in printed.out.splitlines()[3:] if line and "#" not in line and "- file" not in line]
    assert not undocumented, "every field of the config has a comment"


def test_the_command_line_wins_over_the_file(run, data: Path) -> None:
    Path("config.yaml").write_text(
        yaml.safe_dump(
            {"data": {"train": [str(data)], "valid": 3}, "max_steps": 50, "optimizer": {"learning_rate": 0.5}}
        )
    )
    done = run("train", "config.yaml", "--max-steps", 1, "--set", "optimizer.learning_rate=1e-3", "-o", "out", *TINY)
    assert done.status == 0, done.err
    written = config_from_values(read_mapping("out/config.yaml"))
    assert isinstance(written, TrainingConfig)
    assert (written.max_steps, written.optimizer.learning_rate, written.data.valid) == (1, 1e-3, 3.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no training data; give data.train in the config, or --train FILE"),
        (["--train", "missing.extxyz"], "missing.extxyz"),
        (["--train", "DATA", "--energy-key", "Energie"], "dft_energy"),
        (["--train", "DATA", "--model", "xyz"], "unknown model 'xyz'; there are the potentials mace"),
        (["--train", "DATA", "--model", "maze"], "unknown model 'maze'; did you mean 'mace'? there are the potentials"),
        (["--train", "DATA", "--size", "huge"], "unknown size 'huge'; mace has small"),
        (["--train", "DATA", "--valid", "40"], "data.valid must be files, a fraction between 0 and 1, or a number"),
        (["--train", "DATA", "--set", "los.energy=1"], "did you mean 'loss'?"),
        (["--train", "DATA", "--set", "loss.energy"], "--set takes KEY=VALUE"),
        (["--train", "DATA", "--set", "model_options={chanels: 4}"], "did you mean 'channels'?"),
        (["--train", "DATA", "--references", "isolated atoms"], "no isolated atom of"),
        (["--train", "DATA", "--device", "cuda:77"], "device 'cuda:77' is not available here"),
        (["--train", "DATA", "--finetune", "refractory-pbe"], "the model does not know H, O"),
        (["--train", "DATA", "--max-steps", "0"], "max_steps must be positive, got 0"),
        (["config.yaml"], "config.yaml"),
        (["--resume", "-o", "nothing"], "nothing/config.yaml"),
    ],
)
def test_bad_requests_get_one_line(run, data: Path, words: list[str], message: str) -> None:
    words = [str(data) if word == "DATA" else word for word in words]
    done = run("train", *words, *([] if "--resume" in words else ["-o", "out"]))
    assert done.status == 1
    assert message in done.err
    assert done.err.count("error: ") == 1
    assert not (data.parent / "out" / "model.safetensors").exists()


def test_a_loss_that_is_not_finite_saves_its_batch(run, data: Path) -> None:
    words = ["--max-steps", 5, "-o", "out", *TINY, "--set", "optimizer.learning_rate=1e30"]
    done = run("train", "--train", data, "--valid", 4, *words)
    assert done.status == 1
    assert "out/bad_batch.extxyz" in done.err
    assert len(ase.io.read("out/bad_batch.extxyz", ":")) == 5
