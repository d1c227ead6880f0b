"""What a training run of a generator is told: frozen dataclasses that a YAML file fills; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from atomsml.config import config_from_json
from atomsml.generative.molecules.loader import MoleculeBatchConfig
from atomsml.training.config import check_limits, commented_config
from atomsml.training.loop import Clip
from atomsml.training.optim.optimizers import OptimizerConfig
from atomsml.training.optim.schedules import ScheduleConfig


@dataclass(frozen=True)
class MoleculeDataConfig:
    """Which molecules are learnt from, and on which others the loss is followed."""

    train: tuple[str, ...] = ()  # files: xyz, extxyz or sdf (also .gz, .xz), or HDF5
    valid: tuple[str, ...] | float = 0.05  # files; or held out of train: a fraction, or from 1 on a number


@dataclass(frozen=True)
class JudgeConfig:
    """Which molecules are drawn at the end to see what was learnt."""

    molecules: int = 100  # 0: none
    steps: int | None = None  # from noise to molecule; null: as many as suit the generator
    sampler: str | None = None  # null: what suits the generator

    def __post_init__(self) -> None:
        if self.molecules < 0 or (self.steps is not None and self.steps < 1):
            raise ValueError(f"judge needs 0 or more molecules and a step, got {self.molecules} and {self.steps}")


@dataclass(frozen=True)
class GeneratorConfig:
    """A whole run."""

    data: MoleculeDataConfig = field(default_factory=MoleculeDataConfig)
    model: str = "flow"  # which generator
    size: str = "small"  # one of the generator's sizes, which fill its options
    model_options: dict[str, Any] = field(default_factory=dict)  # single options, such as {num_layers: 4}
    conditions: tuple[str, ...] = ()  # properties of the data that may be asked for, such as [gap]
    batch: MoleculeBatchConfig = field(default_factory=MoleculeBatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    clip: Clip = "adaptive"  # largest norm of the gradient; adaptive: by the norms of the last 50 steps
    ema_decay: float = 0.999  # of the averaged weights, which are evaluated and kept
    max_minutes: float | None = None  # the run ends at the first limit; the learning rate follows what is used up
    max_epochs: int | None = None  # passes over the training set
    max_steps: int | None = None  # of the optimiser
    evaluate_epochs: int | None = None  # between evaluations; null: at least 100 steps
    checkpoint_minutes: float = 5.0  # longest time between two checkpoints
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    device: str = "auto"  # cpu, cuda, cuda:1, ...
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()  # beside metrics.jsonl and metrics.csv
    seed: int = 0  # of weights, batches, noise and the part held out

    def __post_init__(self) -> None:
        check_limits(self)


def generator_config(values: dict[str, Any]) -> GeneratorConfig:
    """A config from nested plain values; one file need not be a list.

    Raises:
        ValueError: an unknown key, or an impossible value; names it.
    """
    values = dict(values)
    if isinstance(values.get("data"), dict):
        values["data"] = {
            name: [value] if isinstance(value, str) and name in ("train", "valid") else value
            for name, value in values["data"].items()
        }
    config: GeneratorConfig = config_from_json(GeneratorConfig, values, by_hand=True)
    return config


def starter_generator_config(model: str, generators: Iterable[str]) -> str:
    """A YAML file with every key, its default and its comment, for a new user to edit; it names the generators."""
    example = GeneratorConfig(MoleculeDataConfig(train=("molecules.sdf",)), model, max_minutes=60.0)
    lines = ["# Configuration of `atomsml train` for a generator of molecules; every key may be left out."]
    lines += [f"# Generators, for the key model: {', '.join(generators)}.", "", *commented_config(example)]
    return "\n".join(lines) + "\n"
