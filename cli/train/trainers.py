"""Who trains what: potentials and generators, each with its config, its run, and what is said about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import typer

from atomsml.architectures import Architectures
from atomsml.cli.output import number, print_table
from atomsml.cli.train.progress import train_to_the_end
from atomsml.dataset import LabelKeys
from atomsml.generative import GENERATORS
from atomsml.generative.core.training.config import GeneratorConfig, generator_config, starter_generator_config
from atomsml.generative.core.training.judge import judge as judge_generator
from atomsml.generative.core.training.run import GeneratorRun
from atomsml.potentials import POTENTIALS
from atomsml.training.base_config import RunConfig
from atomsml.training.config import TrainingConfig, config_from_values, starter_config
from atomsml.training.evaluation.judge import judge as judge_potential
from atomsml.training.evaluation.metrics import format_table
from atomsml.training.losses import TERMS
from atomsml.training.run import Run

Config = TypeVar("Config", bound=RunConfig)


class Trainer(ABC, Generic[Config]):
    """One sort of model that `atomsml train` makes."""

    what: ClassVar[str]
    architectures: ClassVar[Architectures[Any]]

    @abstractmethod
    def starter(self, model: str) -> str:
        """A commented YAML file to start from."""

    @abstractmethod
    def parse(self, values: dict[str, Any], keys: LabelKeys, committee: int) -> Config:
        """The config of a run.

        Raises:
            ValueError: unknown keys or impossible values, or options that this sort of model does not have.
        """

    @abstractmethod
    def train(self, config: Config, folder: Path, resume: bool, quiet: bool) -> dict[str, Any]:
        """Train one model in its folder; returns what summary.json holds."""


class PotentialTrainer(Trainer[TrainingConfig]):
    """Processes other than the first say and return nothing."""

    what = "potentials"
    architectures = POTENTIALS

    def starter(self, model: str) -> str:
        return starter_config(POTENTIALS)

    def parse(self, values: dict[str, Any], keys: LabelKeys, committee: int) -> TrainingConfig:
        return config_from_values(values, keys)

    def train(self, config: TrainingConfig, folder: Path, resume: bool, quiet: bool) -> dict[str, Any]:
        run = Run(config, folder, resume)
        train_to_the_end(run, _describe_potential(run), _errors)
        run.world.close()
        if not run.world.is_first:
            return {}
        result = judge_potential(run)
        if not quiet:
            typer.echo(f"errors on the {result['set']} set of {folder / 'model.safetensors'}")
            print_table(*format_table(result["errors"]))
            typer.echo(f"report: {folder / 'report.html'}")
        return result


class GeneratorTrainer(Trainer[GeneratorConfig]):
    """Whatever is generated."""

    what = "generators"
    architectures = GENERATORS

    def starter(self, model: str) -> str:
        model_class = GENERATORS[model]
        return starter_generator_config(model, f"{model_class.kind}{model_class.suffixes[0]}", GENERATORS)

    def parse(self, values: dict[str, Any], keys: LabelKeys, committee: int) -> GeneratorConfig:
        config = generator_config(values)
        if keys != LabelKeys():
            raise ValueError(
                f"{config.model} is a generator, which learns from no labels; leave out the options that name keys"
            )
        if committee > 1:
            raise ValueError(
                f"{config.model} is a generator, and a committee is one of potentials; leave out --committee"
            )
        return config

    def train(self, config: GeneratorConfig, folder: Path, resume: bool, quiet: bool) -> dict[str, Any]:
        run = GeneratorRun(config, folder, resume)
        train_to_the_end(run, _describe_generator(run), lambda metrics: ())
        run.world.close()
        if not run.world.is_first:
            return {}
        result = judge_generator(run)
        if not quiet:
            typer.echo(f"generator: {result['model']}")
            if "likelihood" in result:
                typer.echo(_describe_likelihood(result["likelihood"]))
            if "samples" in result:
                typer.echo(_describe_samples(result["samples"], run.state.model.kind))
        return result


TRAINERS: tuple[Trainer[Any], ...] = (PotentialTrainer(), GeneratorTrainer())


def _describe_potential(run: Run) -> Iterator[str]:
    """What the run found before its first step."""
    for found in run.splits.found():
        yield from found.lines()
    if run.splits.refused:
        yield f"{len(run.splits.refused)} structures cannot be used and are left out:"
        yield from (f"  {refused}" for refused in run.splits.refused)
    for row in run.splits.counts():
        labels = ", ".join(f"{row[name]} {name}" for name in TERMS if name in row)
        yield f"{row['set']}: {row['structures']} structures with labels: {labels}"
    for warning in run.warnings:
        yield f"warning: {warning}"
    potential = run.state.model
    parameters = sum(p.numel() for p in potential.parameters() if p.requires_grad)
    yield (
        f"{run.config.model}: {parameters:,} weights to train, cutoff {potential.cutoff:g} A, references by "
        f"{run.references_kind}, {run.config.precision} on {run.device}"
    )
    state = potential.electronic_state
    told = {"charge": state.charge, "spin": state.spin}
    held = [f"{name} {value:g}" for name, value in told.items() if value is not None]
    if held:
        yield f"the model will refuse structures that are not of {' and '.join(held)}"


def _errors(metrics: dict[str, Any]) -> Iterator[str]:
    for name, title, unit in (("energy", "E", "meV/atom"), ("forces", "F", "meV/A"), ("stress", "S", "meV/A^3")):
        if f"{name}_mae" in metrics:
            yield f"{title} {metrics[f'{name}_mae']:.2f} MAE {metrics[f'{name}_rmse']:.2f} RMSE {unit}"
    for name, title, unit in (
        ("charges", "q", "e"),
        ("dipole", "dipole", "e A"),
        ("quadrupole", "quadrupole", "e A^2"),
    ):
        if f"{name}_mae" in metrics:
            yield f"{title} {metrics[f'{name}_mae']:.4f} MAE {metrics[f'{name}_rmse']:.4f} RMSE {unit}"


def _describe_generator(run: GeneratorRun) -> Iterator[str]:
    """What the run found before its first step."""
    yield f"train: {run.train.describe()}"
    yield f"valid: {run.valid.describe()}"
    for warning in run.warnings:
        yield f"warning: {warning}"
    parameters = sum(p.numel() for p in run.state.model.parameters() if p.requires_grad)
    conditions = ", ".join(run.config.conditions) or "none"
    yield f"{run.config.model}: {parameters:,} weights to train, conditions: {conditions}, on {run.device}"


def _describe_likelihood(found: dict[str, Any]) -> str:
    """The bound of what was held out; without a number where there is none, as of samples that are all impossible."""
    value, low, high = (number(found[name], 2) for name in ("nll_bound", "low", "high"))
    left_out = f", without {found['infinite']} of sizes that the training set lacks" if found["infinite"] else ""
    return f"bound of -log p of the validation set: {value} nats, from {low} to {high}{left_out}"


def _describe_samples(found: dict[str, Any], kind: str) -> str:
    """What was drawn from a new generator, and what its kind says of it."""
    common = ("drawn", "file", "steps", "sampler", "seconds")
    drawn, file, steps, sampler, seconds = (found[name] for name in common)
    judged = (
        f"{name.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in found.items()
        if name not in common
    )
    made = f"{drawn} {kind} drawn in {steps} steps by {sampler} and {seconds:.2g} s"
    return ", ".join([made, *judged]) + f"; they are in {file}"
