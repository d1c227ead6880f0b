"""A training run of a generator: read samples, build, train, follow the loss, keep the last average.

The files of its folder are those of `atomsml/training/base_run.py`. model.safetensors has the averaged weights of the
last evaluation, not those with the lowest loss: the loss of a generator is dominated by noise levels at which nothing
is decided, and its samples go on improving where it is flat. `judge.py` draws some once the run has ended.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atomsml.config import did_you_mean
from atomsml.device import select_device
from atomsml.generative import GENERATORS
from atomsml.generative.core.generator import Generator
from atomsml.generative.core.modelfile import load_generator, save_generator
from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.core.set import SampleSet, hold_out
from atomsml.generative.core.training.config import GeneratorConfig
from atomsml.generative.core.training.loader import SampleLoader
from atomsml.io import write_atomically
from atomsml.training.architecture import find_architecture, model_config, new_model_of
from atomsml.training.base_config import plain_config
from atomsml.training.base_run import BaseRun, run_identity
from atomsml.training.distributed import join_world
from atomsml.training.loop import Step, TrainingState

VALIDATION_SEED = 0  # of times and noise: the same at every evaluation of every run
LARGEST_PROPERTY = 1e30  # float32 ends at 3e38

AnyGenerator = Generator[Any, Any, Any]


class GeneratorRun(BaseRun[AnyGenerator, Any]):
    """A run that has read its samples and built its generator; `steps` trains it.

    Raises:
        ValueError: data, config and folder that do not fit together.
        OSError: a file that cannot be read or written.
    """

    keeps = "last"
    config: GeneratorConfig

    def __init__(self, config: GeneratorConfig, folder: Path, resume: bool = False) -> None:
        super().__init__(config, folder, resume)
        self.world, self.device = join_world(select_device(config.device, "float32"))
        model_class = find_architecture(GENERATORS, config.model, config.size)
        self.train, self.valid, warnings = read_sets(config, model_class)
        self.warnings = [*warnings, *model_class.check(self.train, self.valid)]
        model = new_generator(config, model_class, self.train).to(self.device)
        if config.judge.samples:
            model.requests([0])  # what cannot draw is refused before it is trained
        self.state = TrainingState.start(model, config)
        self.identity = run_identity(
            config,
            *(samples.hashes().tobytes() for samples in (self.train, self.valid)),
            *(samples.properties[name].tobytes() for samples in (self.train, self.valid) for name in config.conditions),
        )
        self.restore()
        self.loader = SampleLoader(self.train, config.batch, config.seed, config.conditions, self.world)
        self._evaluation = SampleLoader(self.valid, config.batch, 0, config.conditions, self.world)

    def objective(self, state: TrainingState[AnyGenerator], batch: Any, done: float) -> float:
        """Mean loss of a batch; times and noise are decided by the seed, the number of the step and the process."""
        seed = sample_seed(self.config.seed, state.step)
        seed = seed if self.world.is_first else sample_seed(seed, self.world.rank)
        sums = torch.zeros(2, dtype=torch.float64)  # of losses, and how many they are
        if batch is not None:
            losses = state.model.loss(batch.to(self.device), torch.Generator().manual_seed(seed))
            losses.sum().backward()
            sums += torch.tensor([losses.sum().item(), len(losses)], dtype=torch.float64)
        self.world.add_gradients(state.model.parameters())
        total, count = self.world.add(sums).tolist()
        for parameter in state.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= count
        return float(total / count)

    def validate(self, step: Step) -> tuple[float, dict[str, Any]]:
        return self.validation_loss(), {}

    def validation_loss(self) -> float:
        """Mean loss of the averaged weights; times and noise are the same at any time, for any number of processes."""
        total = torch.zeros((), dtype=torch.float64)
        with torch.no_grad():
            for number, batch in self._evaluation.in_order():
                generator = torch.Generator().manual_seed(sample_seed(VALIDATION_SEED, number))
                total += self.state.averaged.loss(batch.to(self.device), generator).sum().cpu()
        return self.world.add(total).item() / len(self.valid)

    def counts(self) -> dict[str, int]:
        """How many samples there are of each set."""
        return {"train": len(self.train), "valid": len(self.valid)}

    def save_model(self, metrics: dict[str, Any]) -> None:
        about = {
            "name": self.folder.resolve().name,
            "training": {"config": plain_config(self.config), "data": self.counts(), "run": self.identity},
            "metrics": {"valid": metrics},
        }
        save_generator(self.state.averaged, self.folder / "model.safetensors", about)

    def save_batch(self, batch: object) -> Path | None:
        if batch is None:  # this process had no share of it
            return None
        model = self.state.model
        path = self.folder / f"bad_batch{model.suffixes[0]}"
        write_atomically(path, lambda beside: model.write(beside, model.unpack(batch)))
        return path

    def memory_hint(self) -> str:
        return "lower batch.samples, or bound batch.pairs"


def read_sets(
    config: GeneratorConfig, model_class: type[AnyGenerator]
) -> tuple[SampleSet[Any], SampleSet[Any], list[str]]:
    """The training and the validation set, and what is odd about the files that they come from.

    Raises:
        ValueError: no training file, or a property that a set lacks or that is too large.
        OSError: a file that cannot be read.
    """
    data = config.data
    if not data.train:
        raise ValueError("no training data; give data.train in the config, or --train FILE")
    train: SampleSet[Any] = model_class.read(data.train)
    warnings = list(train.warnings)
    if isinstance(data.valid, tuple):
        if not data.valid:
            raise ValueError("a run needs validation data, on which the loss is followed; give a file or a fraction")
        valid: SampleSet[Any] = model_class.read(data.valid)
        warnings += valid.warnings
    else:
        train, valid = hold_out(train, data.valid, config.seed)
    for name, samples in (("training", train), ("validation", valid)):
        for condition in config.conditions:
            _check_condition(condition, samples, name)
    return train, valid, warnings


def _check_condition(condition: str, samples: SampleSet[Any], name: str) -> None:
    if condition not in samples.properties:
        known = ", ".join(samples.properties) or "none"
        raise ValueError(
            f"conditions: the {name} set has no property {condition!r}; "
            f"{did_you_mean(condition, samples.properties)}its properties are: {known}"
        )
    values = samples.properties[condition]
    known_values = values[np.isfinite(values)]
    if len(known_values) == 0:
        raise ValueError(f"conditions: {condition!r} is NaN or infinite for every sample of the {name} set")
    if np.abs(known_values).max() > LARGEST_PROPERTY:
        raise ValueError(
            f"conditions: {condition!r} reaches {np.abs(known_values).max():.1e} in the {name} set, more than single "
            "precision holds; take another unit"
        )


def new_generator(config: GeneratorConfig, model_class: type[AnyGenerator], samples: SampleSet[Any]) -> AnyGenerator:
    """A generator with random weights by the config's seed, and the tables of its training set.

    Raises:
        ValueError: an unknown option, whose message lists the known ones; or a generator that it cannot start from.
    """
    options = {**model_class.measure(samples), **model_class.sizes[config.size], **config.model_options}
    if config.conditions:
        options["conditions"] = config.conditions
    parts = {name: load_generator(file) for name, file in config.parts.items()}
    options |= {name: asdict(part.config) for name, part in parts.items()}
    model = new_model_of(model_class, model_config(model_class, options), config.seed)
    for name, part in parts.items():
        getattr(model, name).load_state_dict(part.state_dict())
    if config.start is not None:
        model.start_from(load_generator(config.start))
    model.fit(samples)
    return model
