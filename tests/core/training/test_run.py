"""A run in its folder: what it keeps, what it refuses before the first step, and how it stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch

from atomsml.graph import AtomicGraph
from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.modelfile import load
from atomsml.potential import evaluate
from atomsml.training.config import TrainingConfig, config_from_values
from atomsml.training.run import Run


def config(small: dict[str, Any], train: Path, **values: Any) -> TrainingConfig:
    data = {"train": str(train), **values.pop("data", {"valid": 6})}
    return config_from_values({"data": data, "model_options": small, "max_steps": 4, **values})


def test_the_best_model_is_kept_with_its_errors(tmp_path: Path, water: Path, small: dict[str, Any]) -> None:
    run = Run(config(small, water, data={"valid": str(water)}), tmp_path / "run")
    metrics = [progress.metrics for progress in run.steps() if progress.metrics is not None]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == metrics
    best = min(lines, key=lambda line: line["valid_loss"])
    calculator = AtomsMLCalculator(tmp_path / "run" / "model.safetensors", precision="mixed")
    errors = []
    for atoms in ase.io.read(water, ":"):
        atoms.calc = calculator
        errors.append(1000 * (atoms.get_forces() - atoms.arrays["REF_forces"]))
    assert best["forces_rmse"] == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-5)  # float32


def test_a_run_limited_in_minutes_ends_with_an_evaluation(tmp_path: Path, water: Path, small: dict[str, Any]) -> None:
    run = Run(config(small, water, max_steps=None, max_minutes=0.01), tmp_path / "run")
    (*_, last) = run.steps()
    assert last.done >= 1
    assert last.metrics is not None
    assert last.metrics["step"] == run.state.step


def test_the_rate_waits_for_the_validation_loss_in_the_plateau_schedule_alone(
    tmp_path: Path, water: Path, small: dict[str, Any]
) -> None:
    for name, rates in (("constant", 1), ("plateau", 2)):  # steps of 1e-30 improve nothing
        settings = {"schedule": {"name": name, "warmup": 0.0, "patience": 1}, "optimizer": {"learning_rate": 1e-30}}
        list(Run(config(small, water, max_steps=60, ema_decay=0.0, **settings), tmp_path / name).steps())
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) > 4
        assert len({line["learning_rate"] for line in lines[:4]}) == rates


def test_stresses_are_trained_on_where_they_are(tmp_path: Path, crystals: Path, small: dict[str, Any]) -> None:
    run = Run(config(small, crystals, data={"valid": 3}), tmp_path / "run")
    (*_, last) = run.steps()
    assert run.stress
    assert last.metrics is not None
    assert last.metrics["stress_mae"] > 0


def test_molecules_and_crystals_train_together(
    tmp_path: Path, water: Path, crystals: Path, small: dict[str, Any]
) -> None:
    sources = {"train": [str(water), {"file": str(crystals), "weight": 2.0}], "valid": 8}
    run = Run(config(small, water, data=sources, max_steps=8), tmp_path / "run")
    assert all(np.isfinite(progress.step.loss) for progress in run.steps())


def test_a_request_to_stop_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, water: Path, small: dict[str, Any]
) -> None:
    run = Run(config(small, water), tmp_path / "run")
    steps = run.steps()
    next(steps)
    run.stop_requested = True
    assert [progress.step.number for progress in steps] == [2]
    again = Run(config(small, water), tmp_path / "run", resume=True)
    assert [progress.step.number for progress in again.steps()] == [3, 4]


def test_dropout_draws_the_same_in_a_resumed_run(tmp_path: Path, water: Path) -> None:
    """With random numbers of another kind drawn in between; the models that are kept have no dropout any more."""
    tiny = {"channels": 4, "lmax": 1, "mmax": 1, "num_layers": 1, "num_heads": 2, "attention_channels": 4}
    tiny |= {"ffn_channels": 4, "num_gaussians": 8, "cutoff": 3.0, "paper": True}
    dropout = {"attention_dropout": 0.3, "drop_path": 0.3, "projection_dropout": 0.3}
    settings = config({**tiny, **dropout}, water, model="equiformer_v2")
    whole = [progress.step.loss for progress in Run(settings, tmp_path / "whole").steps()]
    stopped = Run(settings, tmp_path / "stopped")
    steps = stopped.steps()
    found = [next(steps).step.loss]
    torch.rand(3)
    stopped.stop_requested = True
    found += [progress.step.loss for progress in steps]
    found += [progress.step.loss for progress in Run(settings, tmp_path / "stopped", resume=True).steps()]
    assert found == whole
    kept = [load(tmp_path / name / "model.safetensors") for name in ("whole", "stopped")]
    weights, again = (model.state_dict() for model in kept)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    graph = AtomicGraph.from_ase(ase.io.read(water))
    assert evaluate(kept[0], graph).energy == evaluate(kept[0], graph).energy


@pytest.mark.parametrize("which", ["train", "valid", "test"])
@pytest.mark.parametrize("what", ["energy", "forces", "stress", "positions", "nothing"])
def test_a_run_knows_its_data(tmp_path: Path, crystals: Path, small: dict[str, Any], which: str, what: str) -> None:
    frames: list[Any] = ase.io.read(crystals, ":")
    files = {name: tmp_path / f"{name}.extxyz" for name in ("train", "valid", "test")}
    for i, path in enumerate(files.values()):
        ase.io.write(path, frames[3 * i : 3 * i + 3], format="extxyz")
    data = {"valid": str(files["valid"]), "test": str(files["test"])}
    before = config(small, files["train"], data=data)
    next(Run(before, tmp_path / "run").steps())
    changed: list[Any] = ase.io.read(files[which], ":")
    if what == "positions":
        changed[1].positions[0, 0] += 0.01
    elif what == "forces":
        changed[1].arrays["REF_forces"] *= -1
    elif what != "nothing":
        changed[1].info[f"REF_{what}"] *= 1.01
    ase.io.write(files[which], changed, format="extxyz")
    if what == "nothing":
        assert Run(before, tmp_path / "run", resume=True).state.step >= 0
    else:
        with pytest.raises(ValueError, match="belongs to a run with other data"):
            Run(before, tmp_path / "run", resume=True)


def test_elements_that_were_not_trained_on_are_refused_before_the_first_step(
    tmp_path: Path, water: Path, crystals: Path, small: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="the valid set: the model does not know Cu; it was made for H O"):
        Run(config(small, water, data={"valid": str(crystals)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import torch
from atomsml.training.config import config_from_values
from atomsml.training.run import Run
torch.set_num_threads(1)
options = {"channels": 256, "lmax": 1, "hidden_lmax": 1, "correlation": 2, "radial_mlp": [8], "cutoff": 4.0}
values = {"data": {"train": sys.argv[1], "valid": 6}, "model_options": options, "batch": {"structures": 24}}
run = Run(config_from_values({**values, "max_steps": 3}), Path(sys.argv[2]))
steps = run.steps()
next(steps)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, resource.RLIM_INFINITY))
try:
    next(steps)
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the size of a process is read from Linux's /proc")
def test_memory_that_runs_out_is_a_clear_error(tmp_path: Path, water: Path) -> None:
    command = [sys.executable, "-c", OUT_OF_MEMORY, str(water), str(tmp_path / "run")]
    # freed memory goes back at once: what the first step leaves behind may else be enough for the second
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert "out of memory at step 2; lower batch.structures" in done.stdout, done.stderr
