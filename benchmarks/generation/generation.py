"""Quality of the embedded generator against the number of evaluations of its network, by sampler.

    python -m benchmarks.generation.generation FOLDER [--samplers ddpm euler heun] [--docs]

Every sampler draws molecules of the same seeds in 10 to 1,000 evaluations: DDPM and Euler make one a step, Heun two but
for the last. DDIM on straight lines is Euler's method, molecule for molecule. The hydrogens have a network and at most
50 steps of their own, which are not counted. A molecule is valid if RDKit finds bond orders for its positions, its
valences are allowed, and it is connected (suite `strict` of `atomsml evaluate molecules`); stable by suite `edm`. Bars
are 95 % confidence intervals (Wilson). Points go to FOLDER/SAMPLER.json as they are done, and a
point that is there is not drawn again, so that several processes may share the work; `--docs` puts the plot in
docs/images and the table in docs/generators/generate.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.molecules.metrics.evaluate import evaluate_molecules
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from benchmarks.shared.reporting import DOCS, replace_section, table

MODEL = "qm9-flow"
SEED = 2
BUDGETS = (10, 20, 50, 100, 200, 500, 1000)
SAMPLERS = {"ddpm": "DDPM", "euler": "Euler, DDIM", "heun": "Heun"}
BATCH = 50


def molecules_of(budget: int) -> int:
    return 250 if budget <= 100 else 100


def steps_of(sampler: str, budget: int) -> int:
    """Steps that need at most `budget` evaluations."""
    return (budget + 1) // 2 if sampler == "heun" else budget


def measure(sampler: str, budget: int) -> dict[str, Any]:
    """Fractions with their intervals."""
    model = load_generator(MODEL)
    images = []
    for start in range(0, molecules_of(budget), BATCH):
        requests = draw_requests(model, [sample_seed(SEED, start + i) for i in range(BATCH)])
        *_, batch = model.sample(requests, steps_of(sampler, budget), sampler)
        images += batch.to_ase()
    return {"molecules": len(images), **fractions(images)}


def fractions(images: list[Any]) -> dict[str, list[float]]:
    """[value, low, high] of the fractions of the plot."""
    suites = evaluate_molecules(images).suites
    wanted = {
        "valid": ("strict", "valid_connected"),
        "stable atoms": ("edm", "atom_stability"),
        "stable molecules": ("edm", "molecule_stability"),
    }
    metrics = {name: suites[suite].metrics[metric] for name, (suite, metric) in wanted.items()}
    return {name: [metric.value, metric.low, metric.high] for name, metric in metrics.items()}


def plot(points: dict[str, dict[int, dict[str, Any]]], path: Path) -> None:
    """Valid and connected molecules against evaluations, a line for each sampler."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for sampler, by_budget in points.items():
        budgets = sorted(by_budget)
        value, low, high = zip(*(by_budget[budget]["valid"] for budget in budgets), strict=True)
        bars = [[v - l for v, l in zip(value, low, strict=True)], [h - v for v, h in zip(value, high, strict=True)]]
        axes.errorbar(budgets, value, bars, marker="o", capsize=3, label=SAMPLERS[sampler])
    axes.set_xscale("log")
    axes.set_xticks(BUDGETS, [f"{budget:,}" for budget in BUDGETS])
    axes.minorticks_off()
    axes.set_xlabel("evaluations of the network")
    axes.set_ylabel("valid and connected molecules (from 80 %)")
    axes.set_ylim(0.8, 1.005)
    axes.set_yticks([0.8, 0.85, 0.9, 0.95, 1.0])
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def rows_of(points: dict[str, dict[int, dict[str, Any]]]) -> str:
    header = [
        "sampler",
        "evaluations",
        "molecules",
        "valid, connected",
        "stable atoms",
        "stable molecules",
    ]
    rows = []
    for sampler, by_budget in points.items():
        for budget, point in sorted(by_budget.items()):
            shares = [f"{100 * point[name][0]:.1f} %" for name in ("valid", "stable atoms", "stable molecules")]
            rows.append([SAMPLERS[sampler], f"{budget:,}", str(point["molecules"]), *shares])
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    points: dict[str, dict[int, dict[str, Any]]] = {}
    for sampler in arguments.samplers:
        path = arguments.folder / f"{sampler}.json"
        known = {int(budget): point for budget, point in json.loads(path.read_text()).items()} if path.exists() else {}
        for budget in BUDGETS:
            if budget not in known:
                known[budget] = measure(sampler, budget)
                path.write_text(json.dumps(known, indent=1))
                print(SAMPLERS[sampler], budget, known[budget], flush=True)
        points[sampler] = known
    plot(points, arguments.folder / "generation.png")
    if arguments.docs:
        plot(points, DOCS / "images" / "generation.png")
        replace_section(DOCS / "generators" / "generate.md", "generation", rows_of(points))


if __name__ == "__main__":
    main()
