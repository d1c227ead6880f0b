"""One training run in one folder, whatever is trained: train, evaluate, log, keep.

| file | what it is |
|---|---|
| config.yaml | the config of the run |
| model.safetensors | the averaged weights that are kept |
| checkpoint.safetensors | where a stopped run goes on |
| metrics.jsonl, metrics.csv | a line for every evaluation |
| bad_batch.* | the data at which the loss stopped being finite, if it did |
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal

import torch

from atomsml.io import write_atomically
from atomsml.training.base_config import RunConfig, plain_config, write_config
from atomsml.training.checkpoint import load_checkpoint, save_checkpoint
from atomsml.training.distributed import World
from atomsml.training.loggers import Logger, MetricsFile, open_loggers
from atomsml.training.loop import (
    Batch,
    Batches,
    Model,
    NonFiniteLoss,
    Objective,
    Step,
    TrainingState,
    fit,
    progress,
)

STEPS_BETWEEN_EVALUATIONS, LEAST_EVALUATIONS = 100, 20
# what may differ between a run and its resumption
FREE = ("max_minutes", "max_epochs", "max_steps", "evaluate_epochs", "checkpoint_minutes", "device", "loggers")


@dataclass(frozen=True)
class Progress:
    """What a step of a run has to tell."""

    step: Step
    done: float  # fraction of the run, 0 .. 1
    metrics: dict[str, Any] | None  # the new line of metrics.jsonl, where the step ended in an evaluation


class BaseRun(ABC, Generic[Model, Batch]):
    """A run that has read its data and built its model; `steps` trains it.

    A subclass has `loader` and `objective` before it calls `restore`.

    Raises:
        ValueError: a folder that holds a run already, unless that is to be resumed.
    """

    loader: Batches[Batch]
    objective: Objective[Model, Batch]
    state: TrainingState[Model]
    config: RunConfig
    device: torch.device
    identity: str  # hash of what the run is about
    keeps: ClassVar[Literal["best", "last"]]  # which evaluated weights model.safetensors has

    def __init__(self, config: RunConfig, folder: Path, resume: bool) -> None:
        self.config, self.folder, self.resume = config, folder, resume
        self.checkpoint = folder / "checkpoint.safetensors"
        if self.checkpoint.exists() and not resume:
            raise ValueError(f"{folder} holds a run already; add --resume to go on with it, or choose another folder")
        self.stop_requested = False  # set it to end `steps` after the step that is under way
        self.world = World()

    @abstractmethod
    def validate(self, step: Step) -> tuple[float, dict[str, Any]]:
        """The loss of the averaged weights on the validation set, and what else its line of metrics.jsonl says."""

    @abstractmethod
    def save_model(self, metrics: dict[str, Any]) -> None:
        """Write model.safetensors with the averaged weights, which an evaluation found to be so good."""

    @abstractmethod
    def save_batch(self, batch: object) -> Path | None:
        """Write what a batch consists of to bad_batch.*; None where there is nothing to write."""

    @abstractmethod
    def memory_hint(self) -> str:
        """Which options of the config to lower when memory has run out."""

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one and it is asked for."""
        if self.resume and self.checkpoint.exists():
            load_checkpoint(self.state, self.checkpoint, self.identity)

    def steps(self) -> Iterator[Progress]:
        """Train until a limit is reached or a stop is requested; evaluates, logs and saves on the way.

        Raises:
            ValueError: the loss became NaN or infinite (the batch is in bad_batch.extxyz), or memory ran out.
            OSError: a file cannot be written, for instance because the disk is full; what was there before is whole.
        """
        loggers = self._open_loggers() if self.world.is_first else []
        self._save_checkpoint()
        saved = self.state.minutes
        before = self._done()
        try:
            for step in fit(self.state, self.loader, self.config, self.objective, self.world):
                stop = self.world.same(float(self.stop_requested)) > 0
                done, metrics = self._done(), None
                if self._is_due(step, before, done):
                    metrics = self._evaluate(step)
                    self.state.loss_sum, self.state.loss_steps = 0.0, 0
                    for logger in loggers:
                        logger.log(metrics, step.number)
                if metrics or stop or self.state.minutes - saved > self.config.checkpoint_minutes:
                    self._save_checkpoint()
                    saved = self.state.minutes
                before = done
                yield Progress(step, done, metrics)
                if stop:
                    return
        except NonFiniteLoss as error:
            raise ValueError(self._save_bad_batch(error)) from None
        except (MemoryError, RuntimeError) as error:  # torch has no type of its own for memory of the CPU
            if not re.search("out of memory|not enough memory|allocate memory", str(error)):
                raise
            raise ValueError(
                f"out of memory at step {self.state.step + 1}; {self.memory_hint()}, or take a smaller model, "
                "in a new folder"
            ) from None
        finally:
            for logger in loggers:
                logger.close()

    def _evaluate(self, step: Step) -> dict[str, Any]:
        """The line of metrics.jsonl; keeps the model if it is the one to keep."""
        valid_loss, more = self.validate(step)
        best = valid_loss < self.state.best_loss
        metrics = {
            "step": step.number,
            "epoch": step.epoch + 1,
            "minutes": round(self.state.minutes, 4),
            "learning_rate": step.learning_rate,
            "train_loss": self.state.loss_sum / self.state.loss_steps,
            "valid_loss": valid_loss,
            "best": best,
            **more,
        }
        self.state.plateau.update(valid_loss)
        if best:
            self.state.best_loss = valid_loss
        if self.world.is_first and (best or self.keeps == "last"):
            self.save_model(metrics)
        return metrics

    def _done(self) -> float:
        return progress(self.state, self.config, len(self.loader.plan(self.state.epoch)))

    def _is_due(self, step: Step, before: float, done: float) -> bool:
        """Whether to evaluate after a step: at the end, after enough epochs, and 20 times even if epochs take long."""
        if done >= 1 or math.floor(LEAST_EVALUATIONS * done) > math.floor(LEAST_EVALUATIONS * before):
            return True
        epochs = self.config.evaluate_epochs
        if epochs is None:
            epochs = math.ceil(STEPS_BETWEEN_EVALUATIONS / len(self.loader.plan(step.epoch)))
        return step.ends_epoch and (step.epoch + 1) % epochs == 0

    def _save_checkpoint(self) -> None:
        if self.world.is_first:
            save_checkpoint(self.state, self.checkpoint, self.identity)

    def _open_loggers(self) -> Sequence[Logger]:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = write_config(self.config)
        write_atomically(self.folder / "config.yaml", lambda beside: beside.write_text(text, encoding="utf-8"))
        files = MetricsFile(self.folder)
        files.truncate(self.state.step)
        resumed = self.state.step or None
        return [files, *open_loggers(self.config.loggers, self.folder, plain_config(self.config), resumed)]

    def _save_bad_batch(self, error: NonFiniteLoss) -> str:
        remedy = "look for wrong data there, or lower optimizer.learning_rate"
        path = self.save_batch(error.batch)
        return f"{error}; {remedy}" if path is None else f"{error}; the batch of that step is in {path}: {remedy}"


def run_identity(config: Any, *data: bytes) -> str:
    """Hash of what a run is about: the config but for its limits, and the data, those of evaluations too."""
    plain = {name: value for name, value in plain_config(config).items() if name not in FREE}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    digest.update(b"".join(data))
    return digest.hexdigest()
