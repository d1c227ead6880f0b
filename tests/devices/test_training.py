"""Training on a device: steps, averages, evaluations and checkpoints are those of the CPU, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from atomsml.device import has_float64
from atomsml.generative import GENERATORS
from atomsml.generative.core.training.config import GeneratorConfig, generator_config
from atomsml.generative.core.training.run import GeneratorRun
from atomsml.training.base_run import BaseRun
from atomsml.training.config import TrainingConfig, config_from_values
from atomsml.training.run import Run

STEPS = 3
OPTIMIZERS = {"muon": {"name": "muon", "learning_rate": 0.01}, "adamw": {"name": "adamw", "learning_rate": 0.01}}


def trained(run: BaseRun[Any, Any], until: int = STEPS) -> BaseRun[Any, Any]:
    """After so many steps, with a checkpoint to go on from."""
    for progress in run.steps():
        run.stop_requested = progress.step.number == until
    return run


def weights(run: BaseRun[Any, Any]) -> dict[str, Tensor]:
    trained, averaged = (each.state_dict() for each in (run.state.model, run.state.averaged))
    return {**{f"model/{n}": x for n, x in trained.items()}, **{f"averaged/{n}": x for n, x in averaged.items()}}


def tensors_of_optimizer(run: BaseRun[Any, Any]) -> list[Tensor]:
    states = run.state.optimizer.state.values()
    return [x for state in states for x in state.values() if isinstance(x, Tensor) and x.ndim > 0]


def assert_on(run: BaseRun[Any, Any], device: torch.device) -> None:
    assert {x.device for x in weights(run).values()} == {device}
    assert {x.device for x in tensors_of_optimizer(run)} == {device}


def assert_same_weights(found: BaseRun[Any, Any], expected: BaseRun[Any, Any], rounding: float) -> None:
    assert found.state.step == expected.state.step == STEPS
    for name, value in weights(expected).items():
        if value.is_floating_point():
            torch.testing.assert_close(weights(found)[name].cpu(), value, rtol=0, atol=rounding, msg=name)


def potential_config(water: Path, device: str, optimizer: str) -> TrainingConfig:
    options = {"channels": 4, "lmax": 1, "hidden_lmax": 1, "correlation": 2, "radial_mlp": [8], "cutoff": 4.0}
    data = {"train": str(water), "valid": 6}
    values = {"model_options": options, "optimizer": OPTIMIZERS[optimizer], "batch": {"structures": 6}}
    return config_from_values(
        {"data": data, "max_steps": STEPS, "precision": "float64", "device": device, **values, "evaluate_epochs": 1}
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_potential(cuda: torch.device, water: Path, tmp_path: Path, optimizer: str) -> None:
    """In float64, where three steps keep twelve digits; stopped and resumed on the device."""
    here = trained(Run(potential_config(water, "cpu", optimizer), tmp_path / "here"))
    config = potential_config(water, "cuda", optimizer)
    trained(Run(config, tmp_path / "there"), until=1)
    there = trained(Run(config, tmp_path / "there", resume=True))
    assert_on(there, cuda)
    assert_same_weights(there, here, 1e-9)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precisions_of_training(cuda: torch.device, water: Path, tmp_path: Path, precision: str) -> None:
    values = {"model_options": {"channels": 4, "lmax": 1, "correlation": 1, "cutoff": 4.0}, "max_steps": 1}
    values |= {"data": {"train": str(water), "valid": 6}, "precision": precision, "device": "cuda"}
    assert_on(trained(Run(config_from_values(values), tmp_path / "run")), cuda)


def test_potentials_are_not_trained_without_float64(device: torch.device, water: Path, tmp_path: Path) -> None:
    """auto leaves such a device alone; who asks for it is told why not."""
    auto = Run(potential_config(water, "auto", "adamw"), tmp_path / "run")
    assert auto.device.type == (device.type if has_float64(device) else "cpu")
    if not has_float64(device):
        with pytest.raises(ValueError, match="device 'mps' has no float64, which precision 'mixed' needs"):
            Run(potential_config(water, "mps", "adamw"), tmp_path / "another")


SMALL = {"channels": 8, "pair_channels": 8, "vectors": 2, "hidden": 8, "num_layers": 1}
GENERATOR_OPTIONS: dict[str, dict[str, Any]] = {
    "flow": {"skeleton": SMALL, "hydrogens": SMALL},
    "edm": {"channels": 8, "num_layers": 1},
    "graph-flow": {"skeleton": SMALL, "hydrogens": SMALL},
    "symphony": {"channels": 8, "hidden": 8, "num_layers": 1, "num_mixtures": 2, "num_peaks": 2},
}


def generator_run(name: str, molecules: Path, device: str) -> GeneratorConfig:
    return generator_config(
        {
            "model": name,
            "model_options": GENERATOR_OPTIONS[name],
            "data": {"train": [str(molecules)], "valid": 2},
            "batch": {"samples": 4},
            "optimizer": {"learning_rate": 0.002},
            "max_steps": STEPS,
            "judge": {"samples": 0},
            "device": device,
        }
    )


@pytest.mark.parametrize("name", GENERATOR_OPTIONS)
def test_a_generator(device: torch.device, molecules: Path, tmp_path: Path, name: str) -> None:
    """In float32; stopped and resumed on the device."""
    assert set(GENERATOR_OPTIONS) == {name for name in GENERATORS if GENERATORS[name].kind == "molecules"}
    here = trained(GeneratorRun(generator_run(name, molecules, "cpu"), tmp_path / "here"))
    config = generator_run(name, molecules, device.type)
    trained(GeneratorRun(config, tmp_path / "there"), until=1)
    there = trained(GeneratorRun(config, tmp_path / "there", resume=True))
    assert_on(there, device)
    assert_same_weights(there, here, 1e-3)
