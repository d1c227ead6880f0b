"""One training run in one folder: read, build, train, evaluate, keep.

| file | what it is |
|---|---|
| config.yaml | the config of the run |
| model.safetensors | the averaged weights with the lowest validation loss so far |
| checkpoint.safetensors | where a stopped run goes on |
| metrics.jsonl, metrics.csv | a line for every evaluation |
| bad_batch.extxyz | the structures at which the loss stopped being finite, if it did |

`judge.py` adds the errors on the test set and the report once the run has ended.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atomsml.calculator import select_device
from atomsml.graph import AtomicGraph
from atomsml.io import write_atomically
from atomsml.losses import loss_sums
from atomsml.modelfile import save
from atomsml.potential import Potential, check_elements
from atomsml.training.build import start_model
from atomsml.training.checkpoint import load_checkpoint, save_checkpoint
from atomsml.training.config import BatchConfig, TrainingConfig, write_config
from atomsml.training.distributed import join_world
from atomsml.training.finetune import merge, replay_for
from atomsml.training.loader import Loader
from atomsml.training.loggers import Logger, MetricsFile, open_loggers
from atomsml.training.loop import NonFiniteLoss, Step, TrainingState, fit, loss_at, predict_for_loss, progress
from atomsml.training.metrics import ErrorTable
from atomsml.training.splits import Splits, read_splits

EVALUATION_BATCH = BatchConfig(structures=None, atoms=1000)
STEPS_BETWEEN_EVALUATIONS, LEAST_EVALUATIONS = 100, 20
# what may differ between a run and its resumption
FREE = ("max_minutes", "max_epochs", "max_steps", "evaluate_epochs", "checkpoint_minutes", "device", "loggers")
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


@dataclass(frozen=True)
class Progress:
    """What a step of a run has to tell."""

    step: Step
    done: float  # fraction of the run, 0 .. 1
    metrics: dict[str, Any] | None  # the new line of metrics.jsonl, where the step ended in an evaluation


class Run:
    """A run that has read its data and built its model; `steps` trains it.

    Raises:
        ValueError: data, config and folder that do not fit together.
        OSError: a file that cannot be read or written.
    """

    def __init__(self, config: TrainingConfig, folder: Path, resume: bool = False) -> None:
        self.config, self.folder = config, folder
        self.checkpoint = folder / "checkpoint.safetensors"
        if self.checkpoint.exists() and not resume:
            raise ValueError(f"{folder} holds a run already; add --resume to go on with it, or choose another folder")
        self.stop_requested = False  # set it to end `steps` after the step that is under way
        self.world, self.device = join_world(select_device(config.device, "mixed"))
        self.splits: Splits = read_splits(config)
        potential, self.references_kind = start_model(config, self.splits.train)
        _check_known(self.splits, potential)
        self.state = TrainingState.start(potential.cast(DTYPES[config.precision]).to(self.device), config)
        self.identity = _identity(config, self.splits)
        if resume and self.checkpoint.exists():
            load_checkpoint(self.state, self.checkpoint, self.identity)
        train, replay = self.splits.train, self.splits.replay
        if replay is not None and config.finetune.model is not None:
            replay = replay_for(potential, config.finetune.model, replay)
        self.stress = train.label_counts()["stress"] > 0
        self.loader = Loader(
            train, potential.cutoff, config.batch, config.seed, config.data.workers, self.world,
            replay, config.finetune.replay_weight,
        )  # fmt: skip
        self.valid = Loader(self.splits.valid, potential.cutoff, EVALUATION_BATCH, 0, config.data.workers, self.world)

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
            for step in fit(self.state, self.loader, self.config, self.stress, self.world):
                stop = self.world.same(float(self.stop_requested)) > 0
                done, metrics = self._done(), None
                if self._is_due(step, before, done):
                    metrics = self._evaluate(step)
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
                f"out of memory at step {self.state.step + 1}; lower batch.structures, or bound batch.atoms or "
                "batch.edges, or take a smaller model, in a new folder"
            ) from None
        finally:
            for logger in loggers:
                logger.close()

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

    def _evaluate(self, step: Step) -> dict[str, Any]:
        """The line of metrics.jsonl; keeps the model if it is the best so far."""
        # one measure for the whole run: that of its last stage
        loss = loss_at(2 if self.config.stage_two.start is not None else 1, self.config)
        dataset = self.splits.valid
        errors = ErrorTable([""], dataset.elements)
        totals = torch.zeros(2, 3, dtype=torch.float64, device=self.device)
        for graph, _ in self.valid.in_order():
            graph = graph.to(self.device)
            prediction = predict_for_loss(self.state.averaged, graph, loss, self.stress, self.config.precision, False)
            totals += torch.stack(loss_sums(prediction, graph, loss))
            errors.add(prediction, graph, [""] * graph.num_systems)
        sums, counts = self.world.add(totals)
        self.world.add(errors.sums())
        valid_loss = (sums / counts.clamp(min=1)).sum().item()
        table = errors.table()["all"]
        best = valid_loss < self.state.best_loss
        metrics = {
            "step": step.number,
            "epoch": step.epoch + 1,
            "minutes": round(self.state.minutes, 4),
            "stage": step.stage,
            "learning_rate": step.learning_rate,
            "train_loss": self.state.loss_sum / self.state.loss_steps,
            "valid_loss": valid_loss,
            "best": best,
            **{name: value for name, value in table.items() if name.endswith(("mae", "rmse"))},
        }
        self.state.loss_sum, self.state.loss_steps = 0.0, 0
        self.state.plateau.update(valid_loss)
        if best:
            self.state.best_loss = valid_loss
            self._save_model(metrics)
        return metrics

    def _save_model(self, metrics: dict[str, Any]) -> None:
        if not self.world.is_first:
            return
        periodic = self.splits.train[0].pbc.any().item()
        about = {
            "name": self.folder.resolve().name,
            "kind": "crystals" if periodic else "molecules",
            "references_kind": self.references_kind,
            "training": {
                "config": json.loads(json.dumps(dataclasses.asdict(self.config))),
                "data": self.splits.counts(),
                "run": self.identity,
            },
            "metrics": {"valid": metrics},
        }
        save(merge(self.state.averaged), self.folder / "model.safetensors", about)

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
        return [files, *open_loggers(self.config.loggers, self.folder, dataclasses.asdict(self.config), resumed)]

    def _save_bad_batch(self, error: NonFiniteLoss) -> str:
        remedy = "look for wrong labels or overlapping atoms there, or lower optimizer.learning_rate"
        if error.graph is None:
            return f"{error}; {remedy}"
        path = self.folder / "bad_batch.extxyz"
        _write_structures(path, error.graph)
        return f"{error}; the {error.graph.num_systems} structures of that step are in {path}: {remedy}"


def _check_known(splits: Splits, potential: Potential) -> None:
    for name, dataset in splits.named().items():
        try:
            check_elements(list(dataset.elements), potential.elements)
        except ValueError as error:
            raise ValueError(f"the {name} set: {error}, which are the elements of the training set") from None


def _write_structures(path: Path, graph: AtomicGraph) -> None:
    import ase.io

    images = [single.to_ase() for single in graph.to_list()]
    for atoms in images:  # ASE takes these names for results of a calculator and would not read them back
        atoms.info["REF_energy"], atoms.info["REF_stress"] = atoms.info.pop("energy"), atoms.info.pop("stress")
        atoms.arrays["REF_forces"] = atoms.arrays.pop("forces")
    write_atomically(path, lambda beside: ase.io.write(beside, images, format="extxyz"))


def _identity(config: TrainingConfig, splits: Splits) -> str:
    """Hash of what a run is about: the config but for its limits, and the labels of the training set."""
    plain = {name: value for name, value in dataclasses.asdict(config).items() if name not in FREE}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    digest.update(splits.train.num_atoms.tobytes() + splits.train.energy.tobytes())
    return digest.hexdigest()
