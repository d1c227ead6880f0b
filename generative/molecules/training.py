"""A training run of a generator: read molecules, build, train, follow the loss, keep the last average.

The files of its folder are those of `atomsml/training/base_run.py`. model.safetensors has the averaged weights of the
last evaluation, not those with the lowest loss: the loss of a generator is dominated by noise levels at which nothing
is decided, and its molecules go on improving where it is flat. `judge.py` draws some once the run has ended.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch

from atomsml.config import config_from_json, did_you_mean
from atomsml.device import select_device
from atomsml.generative import GENERATORS
from atomsml.generative.molecules.config import GeneratorConfig
from atomsml.generative.molecules.data import read_molecules
from atomsml.generative.molecules.loader import MoleculeLoader
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.modelfile import save_generator
from atomsml.generative.molecules.molecules import Molecules
from atomsml.generative.molecules.sampling import sample_seed
from atomsml.generative.molecules.set import MoleculeSet, molecule_hashes, split_molecules
from atomsml.training.base_run import BaseRun, run_identity
from atomsml.training.config import plain_config
from atomsml.training.loop import Step, TrainingState

VALIDATION_SEED = 0  # of times and noise: the same at every evaluation of every run
LARGEST_PROPERTY = 1e30  # float32 ends at 3e38


class MoleculeRun(BaseRun[MoleculeModel, Molecules]):
    """A run that has read its molecules and built its generator; `steps` trains it.

    Raises:
        ValueError: data, config and folder that do not fit together.
        OSError: a file that cannot be read or written.
    """

    def __init__(self, config: GeneratorConfig, folder: Path, resume: bool = False) -> None:
        super().__init__(config, folder, resume)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("a generator is trained by one process; start `atomsml train` without torchrun")
        self.config = config
        self.device = select_device(config.device, "float32")
        self.train, self.valid = read_sets(config)
        for name, molecules in (("training", self.train), ("validation", self.valid)):
            try:
                generator_class(config).check(molecules)
            except ValueError as error:
                raise ValueError(f"the {name} set: {error}") from None
        model = new_generator(config, self.train).to(self.device)
        self.state = TrainingState.start(model, config)
        self.identity = run_identity(config, molecule_hashes(self.train).tobytes())
        self.restore()
        self.loader = MoleculeLoader(self.train, config.batch, config.seed, config.conditions)
        self._evaluation = MoleculeLoader(self.valid, config.batch, 0, config.conditions)

    def objective(self, state: TrainingState[MoleculeModel], batch: Molecules, done: float) -> float:
        """Mean loss of a batch, at times and with noise that the seed and the number of the step decide."""
        generator = torch.Generator().manual_seed(sample_seed(self.config.seed, state.step))
        loss = state.model.loss(batch.to(self.device), generator).mean()
        loss.backward()
        return loss.item()

    def evaluate(self, step: Step) -> dict[str, Any]:
        """The line of metrics.jsonl; keeps the averaged weights."""
        valid_loss = self.validation_loss()
        best = valid_loss < self.state.best_loss
        metrics = {
            "step": step.number,
            "epoch": step.epoch + 1,
            "minutes": round(self.state.minutes, 4),
            "learning_rate": step.learning_rate,
            "train_loss": self.state.loss_sum / self.state.loss_steps,
            "valid_loss": valid_loss,
            "best": best,
        }
        self.state.plateau.update(valid_loss)
        if best:
            self.state.best_loss = valid_loss
        self._save_model(metrics)
        return metrics

    def validation_loss(self) -> float:
        """Mean loss of the averaged weights; times and noise are the same whenever it is asked for."""
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        total = torch.zeros((), dtype=torch.float64)
        with torch.no_grad():
            for batch in self._evaluation.in_order():
                total += self.state.averaged.loss(batch.to(self.device), generator).sum().cpu()
        return total.item() / len(self.valid)

    def counts(self) -> dict[str, int]:
        """How many molecules there are of each set."""
        return {"train": len(self.train), "valid": len(self.valid)}

    def structures(self, batch: object) -> list[ase.Atoms]:
        return batch.to_ase() if isinstance(batch, Molecules) else []

    def memory_hint(self) -> str:
        return "lower batch.molecules, or bound batch.pairs"

    def _save_model(self, metrics: dict[str, Any]) -> None:
        about = {
            "name": self.folder.resolve().name,
            "training": {"config": plain_config(self.config), "data": self.counts(), "run": self.identity},
            "metrics": {"valid": metrics},
        }
        save_generator(self.state.averaged, self.folder / "model.safetensors", about)


def read_sets(config: GeneratorConfig) -> tuple[MoleculeSet, MoleculeSet]:
    """The training and the validation set.

    Raises:
        ValueError: no training file, a property that a set lacks or that is too large, or elements that only the
            validation set has.
        OSError: a file that cannot be read.
    """
    data = config.data
    if not data.train:
        raise ValueError("no training data; give data.train in the config, or --train FILE")
    train = read_molecules(data.train)
    warnings = train.warnings
    if isinstance(data.valid, tuple):
        if not data.valid:
            raise ValueError("a run needs validation data, on which the loss is followed; give a file or a fraction")
        valid = read_molecules(data.valid)
    else:
        train, valid = split_molecules(train, data.valid, config.seed)
    for name, molecules in (("training", train), ("validation", valid)):
        for condition in config.conditions:
            _check_condition(condition, molecules, name)
    strange = sorted(set(valid.elements) - set(train.elements))
    if strange:
        raise ValueError(
            f"the validation set has elements that the training set lacks: {', '.join(_symbols(strange))}; "
            "leave those molecules out"
        )
    return dataclasses.replace(train, warnings=warnings), valid


def _check_condition(condition: str, molecules: MoleculeSet, name: str) -> None:
    if condition not in molecules.properties:
        known = ", ".join(molecules.properties) or "none"
        raise ValueError(
            f"conditions: the {name} set has no property {condition!r}; "
            f"{did_you_mean(condition, molecules.properties)}its properties are: {known}"
        )
    values = molecules.properties[condition]
    known_values = values[np.isfinite(values)]
    if len(known_values) == 0:
        raise ValueError(f"conditions: {condition!r} is NaN or infinite for every molecule of the {name} set")
    if np.abs(known_values).max() > LARGEST_PROPERTY:
        raise ValueError(
            f"conditions: {condition!r} reaches {np.abs(known_values).max():.1e} in the {name} set, more than single "
            "precision holds; take another unit"
        )


def generator_class(config: GeneratorConfig) -> type[MoleculeModel]:
    """The class that a config names, and of which it names a size.

    Raises:
        ValueError: there is none; lists the known ones.
    """
    if config.model not in GENERATORS:
        hint = did_you_mean(config.model, GENERATORS)
        raise ValueError(f"unknown generator {config.model!r}; {hint}there are {', '.join(GENERATORS)}")
    model_class = GENERATORS[config.model]
    if config.size not in model_class.sizes:
        raise ValueError(f"unknown size {config.size!r}; {config.model} has {', '.join(model_class.sizes)}")
    return model_class


def new_generator(config: GeneratorConfig, molecules: MoleculeSet) -> MoleculeModel:
    """A generator with random weights by the config's seed, and the tables of its training set.

    Raises:
        ValueError: an unknown generator, size or option; lists the known ones.
    """
    model_class = generator_class(config)
    options = {
        "elements": molecules.elements,
        "conditions": config.conditions,
        **model_class.measure(molecules),
        **model_class.sizes[config.size],
        **config.model_options,
    }
    plain = json.loads(json.dumps(options, default=dataclasses.asdict))  # tuples become lists, as in a file
    checked = config_from_json(model_class.Config, plain, by_hand=True, where="model_options")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = model_class(checked)
    model.fit(molecules)
    return model


def _symbols(numbers: Sequence[int]) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in numbers]
