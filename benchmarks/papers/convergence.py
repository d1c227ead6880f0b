"""What leads MACE to its published errors: recipes of training on the same structures, for the same number of steps.

    python -m benchmarks.papers.convergence DATA -o FOLDER [--molecule ethanol] [--steps 20000] [--docs]

DATA has the folder molecules_ff/rmd17. A training is `atomsml train` on one thread; all have the same network (64
channels, features of degree 2), structures, batches, seed and cosine decay, and differ in optimiser and loss alone.
FOLDER keeps what is finished. --docs puts the table into docs/accuracy.md.

The recipe of the paper is that of Batatia et al., arXiv:2206.07697, as mace-torch has it: AMSGrad with its learning
rate and weight decay, and weighted squares of the errors. Its learning rate there waits for the validation set; here it
falls as that of the others does, lest they differ in two things.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

SECTION = "recipes"
HELD_OUT = 50  # structures of the training set that choose the best weights
NETWORK = ("--size=medium", "--set=model_options.hidden_lmax=2")
AMSGRAD = (
    "optimizer.name=adamw",
    "optimizer.learning_rate=0.01",
    "optimizer.amsgrad=true",
    "optimizer.weight_decay=5e-7",
)
SQUARES = ("loss.energy_kind=mse", "loss.forces_kind=mse", "loss.energy=15", "loss.forces=1000")
FASTER_AMSGRAD = ("optimizer.name=adamw", "optimizer.learning_rate=0.02", "optimizer.amsgrad=true")
WIDE = "model_options.channels=128"
RECIPES: dict[str, tuple[str, ...]] = {
    "MACE's: AMSGrad, squares of errors": (*AMSGRAD, *SQUARES),
    "Muon, absolute errors, no decay": ("optimizer.weight_decay=0",),
    "Muon, absolute errors, weight decay 0.01": ("optimizer.weight_decay=0.01",),
    "Muon, squares of errors, weight decay 0.01": ("optimizer.weight_decay=0.01", *SQUARES),
    "Muon, absolute errors, weight decay 0.1": ("optimizer.weight_decay=0.1",),
    "AMSGrad at a rate of 0.02, absolute errors": FASTER_AMSGRAD,
    "128 channels: Muon, absolute errors, weight decay 0.01": (WIDE, "optimizer.weight_decay=0.01"),
    "128 channels: AMSGrad, absolute errors": (WIDE, *AMSGRAD),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--molecule", default="ethanol", help="of rMD17")
    parser.add_argument("--steps", type=int, default=20_000, help="of each training")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/ as well")
    arguments = parser.parse_args()
    rows = []
    for number, (name, settings) in enumerate(RECIPES.items()):
        folder = arguments.output / f"{arguments.molecule}-{arguments.steps}-{number}"
        if not (folder / "summary.json").exists():
            train(settings, folder, arguments)
        rows.append([name, *figures(folder)])
    header = ["recipe", "minutes", "training", "E, meV/atom", "F, meV/A", "F, RMSE"]
    circumstances = f"rMD17 {arguments.molecule}, {arguments.steps:,} steps. {processor()}, one thread."
    meaning = "*Training*: the loss at the end, over that on the validation set."
    errors = "Errors are of the test set, mean absolute ones but for the last column."
    text = f"{circumstances}\n{meaning} {errors}\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "accuracy.md", SECTION, text)


def train(settings: tuple[str, ...], folder: Path, arguments: argparse.Namespace) -> None:
    train_set, test_set = (
        arguments.data / "molecules_ff" / "rmd17" / f"{arguments.molecule}_{part}_01.extxyz.xz"
        for part in ("train", "test")
    )
    start = ["--resume"] if (folder / "checkpoint.safetensors").exists() else [
        *(f"--train={train_set}", f"--test={test_set}", f"--valid={HELD_OUT}", "--seed=0", "--device=cpu"),
        *(*NETWORK, f"--max-steps={arguments.steps}", *(f"--set={setting}" for setting in settings)),
    ]  # fmt: skip
    command = [sys.executable, "-m", "atomsml.cli", "train", *start, f"--output={folder}"]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)


def figures(folder: Path) -> list[str]:
    """The cells of a row, from what a finished run has left."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    errors = summary["errors"]["all"]
    measured = [errors[name] for name in ("energy_mae", "forces_mae", "forces_rmse")]
    return [f"{summary['minutes']:.0f}", f"{last['train_loss'] / last['valid_loss']:.2f}", *map(three_digits, measured)]


if __name__ == "__main__":
    main()
