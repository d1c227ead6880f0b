"""The three ideas of EquiformerV2, taken away one after the other: its ablation, on one molecule and one core.

    python -m benchmarks.papers.equiformer_ablation TRAIN FOLDER [--seeds 2] [--steps 300] [--docs]

Liao et al., arXiv:2306.12059, start from Equiformer with the convolutions of eSCN, and add attention re-normalisation,
the separable S2 activation in place of gates, and separable layer normalisation. Here the published network does the
same on TRAIN (`ethanol_train_01.extxyz.xz` of rMD17), small, with a head for forces as in the paper, for equal steps.
Errors are those of the averaged weights on 100 structures that were kept apart. Trainings that are in FOLDER are not
repeated. --docs puts the table into docs/faithful.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from atomsml.training.config import config_from_values
from atomsml.training.run import Run
from benchmarks.shared.reporting import DOCS, processor, replace_section, table

SECTION = "EquiformerV2's ablation"
HELD_OUT = 100
SMALL = {
    **{"paper": True, "direct_forces": True, "channels": 16, "lmax": 2, "mmax": 2, "num_layers": 2, "num_heads": 4},
    **{"attention_channels": 16, "alpha_channels": 8, "value_channels": 4, "ffn_channels": 32, "radial_mlp": [32, 32]},
    **{"readout_channels": 32, "num_gaussians": 64},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "none of them": {"attention_renormalization": False, "activation": "gate", "norm": "degree"},
    "attention re-normalisation": {"activation": "gate", "norm": "degree"},
    "and separable S2 activation": {"norm": "degree"},
    "and separable layer norm: as published": {},
    "as published, `norm: joint`": {"norm": "joint"},
}


def train(train_set: Path, folder: Path, options: dict[str, Any], seed: int, steps: int) -> dict[str, float]:
    """Errors after the last step, and what it took; kept in the folder."""
    kept = folder / "ablation.json"
    if kept.exists():
        found: dict[str, float] = json.loads(kept.read_text())
        return found
    values = {
        "data": {"train": str(train_set), "valid": HELD_OUT},
        "model": "equiformer_v2",
        "model_options": {**SMALL, **options},
        "max_steps": steps,
        "seed": seed,
        "device": "cpu",
    }
    begin = time.process_time()
    run = Run(config_from_values(values), folder)
    metrics = [progress.metrics for progress in run.steps() if progress.metrics is not None]
    found = {name: metrics[-1][name] for name in ("energy_mae", "forces_mae")}
    found |= {"seconds": time.process_time() - begin, "weights": sum(p.numel() for p in run.state.model.parameters())}
    kept.write_text(json.dumps(found))
    return found


def report(found: dict[str, list[dict[str, float]]], steps: int) -> str:
    rows = []
    for name, runs in found.items():
        row = [name, f"{runs[0]['weights']:,.0f}"]
        for key in ("energy_mae", "forces_mae"):
            row.append(" / ".join(f"{run[key]:.3g}" for run in runs))
        rows.append([*row, f"{1e3 * statistics.mean(run['seconds'] for run in runs) / steps:.0f}"])
    seeds = len(next(iter(found.values())))
    head = f"rMD17 ethanol, {steps} steps of 5 structures, {seeds} seeds. {processor()}, one thread."
    return f"{head}\n\n{table(['ideas', 'weights', 'E, meV/atom', 'F, meV/A', 'ms per step'], rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/faithful.md as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(arguments.seeds):
        for i, (name, options) in enumerate(VARIANTS.items()):
            folder = arguments.folder / f"{i}-{seed}"
            found[name].append(train(arguments.train, folder, options, seed, arguments.steps))
            print(name, seed, found[name][-1], flush=True)
    text = report(found, arguments.steps)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "faithful.md", SECTION, text)


if __name__ == "__main__":
    main()
