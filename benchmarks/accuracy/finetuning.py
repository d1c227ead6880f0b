"""Fine-tune an embedded model on few structures of another level of theory: what each method reaches and forgets.

    python -m benchmarks.accuracy.finetuning TRAIN TEST BASE [--steps 400] [--structures 50] [--only NAME ...]

TRAIN and TEST are files of labelled structures of the new level; of TRAIN, some structures are trained on and VALID
others choose the best weights. BASE holds structures labelled like the training set of the base model, in groups
(molecules): some groups serve as replay, and others show how much of the base model is left. Every training takes the
same number of steps, of 8 structures each; the table has the processor time that it needed.
"""

import argparse
import platform
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import ase.io
import numpy as np
import torch

from atomsml.dataset import Dataset, read_dataset, split
from atomsml.modelfile import load
from atomsml.potential import Potential, evaluate
from atomsml.training.config import DataConfig, FinetuneConfig, SourceConfig, TrainingConfig
from atomsml.training.evaluation.metrics import measure
from atomsml.training.finetune import refit_references
from atomsml.training.loader import Loader
from atomsml.training.optim.optimizers import OptimizerConfig
from atomsml.training.run import EVALUATION_BATCH, Run

MODEL, VALID, TEST, REPLAY = "organic-xtb", 20, 200, 1000  # base model, and structures of each set


def methods(replay: Path) -> dict[str, FinetuneConfig]:
    with_replay = partial(FinetuneConfig, model=MODEL, replay=(SourceConfig(str(replay)),))
    return {
        "from scratch": FinetuneConfig(),
        "naive": FinetuneConfig(model=MODEL),
        "freeze": FinetuneConfig(model=MODEL, method="freeze", trainable=("layers.1.*", "readouts.*")),
        "lora": FinetuneConfig(model=MODEL, method="lora"),
        "naive, replay 0.1": with_replay(replay_weight=0.1),
        "naive, replay 1": with_replay(replay_weight=1.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--steps", type=int, default=400, help="of each training")
    parser.add_argument("--structures", type=int, default=50, help="of the new level that are trained on")
    parser.add_argument("--only", nargs="*", help="names of the methods to run")
    parser.add_argument("--learning-rate", type=float, default=0.005, help="at its peak, of fine-tuning")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"{platform.machine()}, 1 thread, torch {version('torch')}, seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, Path(folder))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    new, test, old = read_sets(arguments, folder)
    print(f"{'method':22s} {'trained':>8s} {'CPU s':>6s}  E MAE, RMSE meV/atom  F MAE, RMSE meV/A  F MAE of base level")
    base = load(MODEL)
    refit_references(base, new)
    report("base, references refit", 0, 0.0, base, test, old)
    for name, finetune in methods(folder / "replay.extxyz").items():
        if arguments.only and name not in arguments.only:
            continue
        config = TrainingConfig(
            data=DataConfig(
                train=(SourceConfig(str(folder / "train.extxyz")),), valid=(SourceConfig(str(folder / "valid.extxyz")),)
            ),
            finetune=finetune,
            # that of a model from random weights is the default, which suits those
            optimizer=OptimizerConfig(learning_rate=arguments.learning_rate) if finetune.model else OptimizerConfig(),
            max_steps=arguments.steps,
            evaluate_epochs=5,
            seed=arguments.seed,
        )
        run = Run(config, folder / name)
        start = time.process_time()
        for _ in run.steps():
            pass
        seconds = time.process_time() - start
        trained = sum(p.numel() for p in run.state.model.parameters() if p.requires_grad)
        report(name, trained, seconds, load(folder / name / "model.safetensors"), test, old)


def read_sets(arguments: argparse.Namespace, folder: Path) -> tuple[Dataset, Dataset, Dataset]:
    """New structures to train on, test structures of the new level, structures of the base level."""
    rng = np.random.default_rng(0)
    source = read_dataset(arguments.train)
    chosen = rng.permutation(len(source))
    train, valid = np.split(chosen[: arguments.structures + VALID], [arguments.structures])
    test = read_dataset(arguments.test)
    seen = set(source.energy[chosen].round(6).tolist())  # published sets overlap
    unseen = np.array([i for i, energy in enumerate(test.energy.round(6).tolist()) if energy not in seen])
    parts = split(read_dataset(arguments.base), {"replay": 0.5, "kept": 0.5}, by="group")
    parts = {
        name: known_to(load(MODEL), part.subset(rng.permutation(len(part))[:2000])) for name, part in parts.items()
    }
    for name, dataset in (
        ("train", source.subset(train)),
        ("valid", source.subset(valid)),
        ("replay", known_to(load(MODEL), parts["replay"]).subset(np.arange(REPLAY))),
    ):
        write(dataset, folder / f"{name}.extxyz")
    return (
        source.subset(train),
        test.subset(rng.permutation(unseen)[:TEST]),
        known_to(load(MODEL), parts["kept"]).subset(np.arange(TEST)),
    )


def known_to(potential: Potential, dataset: Dataset) -> Dataset:
    """The structures of which the potential knows every element."""
    known = np.isin(np.arange(119), potential.elements)
    counts = np.concatenate([block for _, block in dataset.compositions()])
    return dataset.subset(np.flatnonzero(counts[:, ~known].sum(axis=1) == 0))


def write(dataset: Dataset, path: Path) -> None:
    frames = []
    for graph in dataset:
        atoms = ase.Atoms(graph.numbers.numpy(), graph.positions.numpy(), cell=graph.cell[0].numpy(), pbc=graph.pbc[0])
        atoms.info["REF_energy"] = graph.system_data["energy"].item()
        atoms.arrays["REF_forces"] = graph.atom_data["forces"].numpy()
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")


def report(name: str, trained: int, seconds: float, potential: Potential, test: Dataset, old: Dataset) -> None:
    new = errors(potential, test)
    forgotten = "-"
    if set(old.elements) <= set(potential.elements):  # a model of one molecule knows only its elements
        forgotten = f"{errors(potential, old)['forces_mae']:.1f}"
    print(
        f"{name:22s} {trained:8d} {seconds:6.0f} {new['energy_mae']:10.2f} {new['energy_rmse']:6.2f}"
        f" {new['forces_mae']:10.1f} {new['forces_rmse']:6.1f} {forgotten:>12s}",
        flush=True,
    )


def errors(potential: Potential, dataset: Dataset) -> dict[str, float]:
    """Of all structures: meV/atom and meV/A."""
    loader = Loader(dataset, potential.cutoff, EVALUATION_BATCH, 0)
    batches = ((graph, [""] * graph.num_systems) for graph, _ in loader.in_order())
    return measure(partial(evaluate, potential), batches, [""], dataset.elements).table()["all"]


if __name__ == "__main__":
    main()
