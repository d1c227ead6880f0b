"""A run killed at any moment goes on bit for bit; checkpoints that do not fit are refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from atomsml.modelfile import load
from atomsml.potentials.mace import MACE
from atomsml.training.checkpoint import load_checkpoint, save_checkpoint
from atomsml.training.config import TrainingConfig, config_from_values
from atomsml.training.loop import TrainingState
from atomsml.training.optim.optimizers import OptimizerConfig
from atomsml.training.run import Run
from atomsml.yaml_file import read_mapping

Maker = Callable[[int], MACE]

PROGRAM = """
import sys
from pathlib import Path
import torch
from atomsml.yaml_file import read_mapping
from atomsml.training.config import config_from_values
from atomsml.training.run import Run
torch.set_num_threads(1)
for _ in Run(config_from_values(read_mapping(sys.argv[1])), Path(sys.argv[2]), resume=True).steps():
    pass
"""


def config_file(water: Path, small: dict[str, Any]) -> Path:
    values = {
        "data": {"train": str(water), "valid": 6},
        "model_options": small,
        "batch": {"structures": 4},
        "schedule": {"name": "plateau", "patience": 1},
        "stage_two": {"start": 0.5},
        "max_epochs": 8,
        "evaluate_epochs": 1,
        "checkpoint_minutes": 0.001,  # every few steps: within epochs, too
    }
    path = water.with_name("config.yaml")
    path.write_text(json.dumps(values))
    return path


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path, water: Path, small: dict[str, Any]) -> None:
    """SIGKILL at a random time; only the times, which are no part of the result, differ."""
    config = config_file(water, small)

    def run(folder: str) -> None:
        torch.set_num_threads(1)
        for _ in Run(config_from_values(read_mapping(config)), tmp_path / folder, resume=True).steps():
            pass

    run("whole")
    steps = load_lines(tmp_path / "whole")
    metrics = tmp_path / "killed" / "metrics.jsonl"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(config), str(tmp_path / "killed")])
    while process.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < 2):
        time.sleep(0.002)
    time.sleep(random.Random(0).uniform(0, 0.1))
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    run("killed")
    assert load_lines(tmp_path / "killed") == steps
    whole, killed = (load(tmp_path / name / "model.safetensors").state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def load_lines(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "minutes"} for line in lines]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_states_round_trip(tmp_path: Path, small_model: Maker, name: str) -> None:
    config = TrainingConfig(max_steps=10, optimizer=OptimizerConfig(name=name))  # type: ignore[arg-type]
    state = TrainingState.start(small_model(0), config)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.step, state.minutes, state.best_loss = 1, 0.1 + 0.2, float("inf")
    state.plateau.update(1.5)
    save_checkpoint(state, tmp_path / "checkpoint.safetensors", run="a")
    again = TrainingState.start(small_model(1), config)
    load_checkpoint(again, tmp_path / "checkpoint.safetensors", run="a")
    assert (again.step, again.minutes, again.best_loss) == (1, 0.1 + 0.2, float("inf"))
    assert again.plateau.state() == state.plateau.state()
    for parameter in (*state.model.parameters(), *again.model.parameters()):
        parameter.grad = torch.full_like(parameter, 0.5)
    state.optimizer.step()
    again.optimizer.step()
    for ours, theirs in zip(state.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path, small_model: Maker) -> None:
    path = tmp_path / "checkpoint.safetensors"
    state = TrainingState.start(small_model(0), TrainingConfig(max_steps=1))
    save_checkpoint(state, path, run="a")
    with pytest.raises(ValueError, match="belongs to a run with other data"):
        load_checkpoint(state, path, run="b")
    path.write_bytes(path.read_bytes().replace(b'\\"identity\\": 2', b'\\"identity\\": 1'))
    with pytest.raises(ValueError, match="of an earlier version of atomsml, which did not note all data"):
        load_checkpoint(state, path, run="a")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no whole checkpoint"):
        load_checkpoint(state, path, run="a")
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    with pytest.raises(ValueError, match="is no checkpoint of this version"):
        load_checkpoint(state, path, run="a")


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, water: Path, small: dict[str, Any]) -> None:
    """A limit on the size of files stops the writing as a full disk does."""
    resource = pytest.importorskip("resource", reason="limits on file sizes are set by POSIX systems only")
    values = {"data": {"train": str(water), "valid": 6}, "model_options": small, "max_steps": 2}
    run = Run(config_from_values(values), tmp_path / "run")
    list(run.steps())
    before = run.checkpoint.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(run.state, run.checkpoint, run.identity)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert run.checkpoint.read_bytes() == before
    assert os.listdir(tmp_path / "run").count("checkpoint.safetensors") == 1
    assert not [name for name in os.listdir(tmp_path / "run") if name.startswith(".")]
