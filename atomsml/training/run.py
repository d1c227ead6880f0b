"""A training run of a potential: read, build, train, evaluate, keep the best.

The files of its folder are those of `base_run.py`; model.safetensors has the averaged weights with the lowest
validation loss so far. `judge.py` adds the errors on the test set and the report once the run has ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from atomsml.device import select_device
from atomsml.graph import AtomicGraph
from atomsml.io import write_atomically
from atomsml.modelfile import save
from atomsml.potential import Potential, check_elements
from atomsml.training.base_config import plain_config
from atomsml.training.base_run import BaseRun, run_identity
from atomsml.training.build import (
    MEANINGLESS_ENERGIES,
    charge_warnings,
    reference_warnings,
    start_model,
    state_warnings,
)
from atomsml.training.config import BatchConfig, TrainingConfig
from atomsml.training.distributed import join_world
from atomsml.training.evaluation.metrics import ErrorTable
from atomsml.training.finetune import merge, replay_for
from atomsml.training.loader import Loader
from atomsml.training.loop import Step, TrainingState
from atomsml.training.losses import TERMS, loss_sums
from atomsml.training.objective import PotentialObjective, loss_at, predict_for_loss, stage_at
from atomsml.training.splits import Splits, read_splits

EVALUATION_BATCH = BatchConfig(structures=None, atoms=1000)
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


class Run(BaseRun[Potential, AtomicGraph | None]):
    """A run that has read its data and built its model; `steps` trains it.

    Raises:
        ValueError: data, config and folder that do not fit together.
        OSError: a file that cannot be read or written.
    """

    keeps = "best"
    config: TrainingConfig

    def __init__(self, config: TrainingConfig, folder: Path, resume: bool = False) -> None:
        super().__init__(config, folder, resume)
        self.world, self.device = join_world(select_device(config.device, "mixed"))
        self.splits: Splits = read_splits(config)
        potential, self.references_kind = start_model(config, self.splits.train)
        self.warnings = [*self.splits.warnings, *reference_warnings(config, self.splits.train, self.references_kind)]
        self.warnings += [*state_warnings(self.splits.train), *charge_warnings(config)]
        _check_known(self.splits, potential)
        self.state = TrainingState.start(potential.cast(DTYPES[config.precision]).to(self.device), config)
        train, replay = self.splits.train, self.splits.replay
        self.identity = identity_of(config, self.splits)
        self.restore()
        if replay is not None and config.finetune.model is not None:
            replay = replay_for(potential, config.finetune.model, replay)
        self.stress = train.label_counts()["stress"] > 0
        self.objective = PotentialObjective(config, self.stress, self.world)
        self.loader: Loader = Loader(
            train, potential.cutoff, config.batch, config.seed, config.data.workers, self.world,
            replay, config.finetune.replay_weight,
        )  # fmt: skip
        self.valid = Loader(self.splits.valid, potential.cutoff, EVALUATION_BATCH, 0, config.data.workers, self.world)

    def validate(self, step: Step) -> tuple[float, dict[str, Any]]:
        # one measure for the whole run: that of its last stage
        loss = loss_at(2 if self.config.stage_two.start is not None else 1, self.config)
        dataset = self.splits.valid
        errors = ErrorTable([""], dataset.elements)
        totals = torch.zeros(2, len(TERMS), dtype=torch.float64, device=self.device)
        for graph, _ in self.valid.in_order():
            graph = graph.to(self.device)
            prediction = predict_for_loss(self.state.averaged, graph, loss, self.stress, self.config.precision, False)
            totals += torch.stack(loss_sums(prediction, graph, loss))
            errors.add(prediction, graph, [""] * graph.num_systems)
        sums, counts = self.world.add(totals)
        self.world.add(errors.sums())
        valid_loss = (sums / counts.clamp(min=1)).sum().item()
        table = errors.table()["all"]
        errors_of = {name: value for name, value in table.items() if name.endswith(("mae", "rmse"))}
        return valid_loss, {"stage": stage_at(step.done, self.config), **errors_of}

    def save_model(self, metrics: dict[str, Any]) -> None:
        periodic = self.splits.train[0].pbc.any().item()
        about: dict[str, Any] = {
            "name": self.folder.resolve().name,
            "kind": "crystals" if periodic else "molecules",
            "references_kind": self.references_kind,
            "training": {
                "config": plain_config(self.config),
                "data": self.splits.counts(),
                "run": self.identity,
            },
            "metrics": {"valid": metrics},
        }
        if self.splits.train.label_counts()["energy"] == 0 and not self.config.finetune.only_charges:
            about["energies"] = MEANINGLESS_ENERGIES
        save(merge(self.state.averaged), self.folder / "model.safetensors", about)

    def save_batch(self, batch: object) -> Path | None:
        """With its labels; none where this process had no share of the batch."""
        import ase.io

        if not isinstance(batch, AtomicGraph):
            return None
        images = [graph.to_ase() for graph in batch.to_list()]
        for atoms in images:  # ASE takes these names for results of a calculator and would not read them back
            atoms.info["REF_energy"], atoms.info["REF_stress"] = atoms.info.pop("energy"), atoms.info.pop("stress")
            atoms.arrays["REF_forces"] = atoms.arrays.pop("forces")
            for name in self.splits.train.multipoles:
                data = atoms.arrays if name in atoms.arrays else atoms.info
                data[f"REF_{name}"] = data.pop(name)
        path = self.folder / "bad_batch.extxyz"
        write_atomically(path, lambda beside: ase.io.write(beside, images, format="extxyz"))
        return path

    def memory_hint(self) -> str:
        return "lower batch.structures, or bound batch.atoms or batch.edges"


def identity_of(config: TrainingConfig, splits: Splits) -> str:
    """Hash of the config and all data of a run, which its checkpoints and its model keep."""
    return run_identity(config, *(dataset.digest() for dataset in splits.named().values()))


def _check_known(splits: Splits, potential: Potential) -> None:
    for name, dataset in splits.named().items():
        try:
            check_elements(list(dataset.elements), potential.elements)
        except ValueError as error:
            raise ValueError(f"the {name} set: {error}, which are the elements of the training set") from None
