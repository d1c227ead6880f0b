"""What a training run of a generator is told: frozen dataclasses that a YAML file fills; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from atomsml.config import config_from_json
from atomsml.generative.core.training.loader import SampleBatchConfig
from atomsml.training.base_config import RunConfig, commented_config


@dataclass(frozen=True)
class SampleDataConfig:
    """Which samples are learnt from, and on which others the loss is followed."""

    train: tuple[str, ...] = ()  # files, also .gz and .xz: xyz, extxyz, sdf, HDF5; of backbones PDB, mmCIF, folders
    valid: tuple[str, ...] | float = 0.05  # files; or held out of train: a fraction, or from 1 on a number


@dataclass(frozen=True)
class JudgeConfig:
    """Which samples are drawn at the end to see what was learnt."""

    samples: int = 100  # 0: none
    steps: int | None = None  # from noise to sample; null: as many as suit the generator
    sampler: str | None = None  # null: what suits the generator

    def __post_init__(self) -> None:
        if self.samples < 0 or (self.steps is not None and self.steps < 1):
            raise ValueError(f"judge needs 0 or more samples and a step, got {self.samples} and {self.steps}")


@dataclass(frozen=True)
class GeneratorConfig(RunConfig):
    """A whole run of a generator."""

    data: SampleDataConfig = field(default_factory=SampleDataConfig)
    model: str = "flow"  # which generator
    size: str = "small"  # one of the generator's sizes, which fill its options
    model_options: dict[str, Any] = field(default_factory=dict)  # single options, such as {num_layers: 4}
    parts: dict[str, str] = field(default_factory=dict)  # trained generators that it contains: {graphs: name or file}
    start: str | None = None  # name or file of a generator whose weights it starts with; null: random ones
    conditions: tuple[str, ...] = ()  # properties of the data that may be asked for, such as [gap]
    batch: SampleBatchConfig = field(default_factory=SampleBatchConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)


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


def starter_generator_config(model: str, file: str, generators: Iterable[str]) -> str:
    """A YAML file with every key, its default and its comment, for a new user to edit; it names the generators.

    `file` stands for the data that this model learns from.
    """
    example = GeneratorConfig(data=SampleDataConfig(train=(file,)), model=model, max_minutes=60.0)
    lines = ["# Configuration of `atomsml train` for a generator; every key may be left out."]
    lines += [f"# Generators, for the key model: {', '.join(generators)}.", "", *commented_config(example)]
    return "\n".join(lines) + "\n"
