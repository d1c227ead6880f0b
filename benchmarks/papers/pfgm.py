"""PFGM++ at few steps: the same network trained with noise of D extra dimensions, on molecules.

    python -m benchmarks.papers.pfgm DATA/molecules_static/qm9_xtb.h5 FOLDER [--steps 2000] [--molecules 250] [--docs]

Y. Xu et al., arXiv:2302.04265: with finite D, samples are better than with D = infinity, the noise of Karras, and
suffer less from errors of the network and from long steps. Here the default flow of molecules is trained anew for
every D, each for as many steps with the same seed, and drawn from by Euler's and by Heun's method in 10, 20 and 50
evaluations of each of its networks. Its straight lines are those of Karras' equation with the state scaled by
1 / (1 + sigma) and t = sigma / (1 + sigma). Ancestral steps, which need normal noise, are drawn for D = infinity alone.

A molecule is valid if it is connected and has usual valences by suite `strict`, stable by suite `edm`; 95 % intervals
are in the files. A run that was stopped goes on, points of FOLDER/points.json are not drawn again, and --docs puts the
table into docs/claims.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from atomsml.cli.main import main as atomsml
from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.molecules.metrics.evaluate import evaluate_molecules
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.sampling import sample_molecules
from benchmarks.shared.reporting import DOCS, processor, replace_section, table

DIMENSIONS = (32, 128, 2048, None)  # D; None: normal noise
BUDGETS = (10, 20, 50)
SAMPLERS = {"euler": "Euler", "heun": "Heun", "ddpm": "ancestral"}
BATCH, SEED = 128, 3


def train(data: Path, folder: Path, dimensions: int | None, steps: int) -> Path:
    """The model of a finished run."""
    run = folder / name_of(dimensions)
    options = [f"model_options={{extra_dimensions: {'null' if dimensions is None else dimensions}}}"]
    options += [f"batch.samples={BATCH}", f"max_steps={steps}", "judge.samples=0"]
    command = ["train", "--model", "flow", "--train", str(data), "--seed", "0", *(f"--set={each}" for each in options)]
    if (run / "checkpoint.safetensors").exists():
        command = ["train", "--resume"]
    if not (run / "summary.json").exists():
        try:
            atomsml([*command, "-o", str(run)])
        except SystemExit as stop:
            if stop.code:
                raise
    return run / "model.safetensors"


def name_of(dimensions: int | None) -> str:
    return "infinity" if dimensions is None else str(dimensions)


def measure(path: Path, sampler: str, budget: int, molecules: int) -> dict[str, list[float]]:
    """[value, low, high] of what the table says, of molecules drawn in at most `budget` evaluations of a network."""
    model = load_generator(path)
    steps = (budget + 1) // 2 if sampler == "heun" else budget
    requests = draw_requests(model, [sample_seed(SEED, i) for i in range(molecules)])
    drawn: dict[int, Any] = {}
    for progress in sample_molecules(model, requests, model.batches(requests), steps, sampler):
        drawn |= progress.drawn
    suites = evaluate_molecules([drawn[i] for i in range(molecules)], ("edm", "strict")).suites
    wanted = {
        "valid": suites["strict"].metrics["valid_connected"],
        "stable": suites["edm"].metrics["molecule_stability"],
    }
    return {name: [metric.value, metric.low, metric.high] for name, metric in wanted.items()}


def rows_of(points: dict[str, dict[str, list[float]]]) -> list[list[str]]:
    rows = []
    for dimensions in map(name_of, DIMENSIONS):
        for sampler, title in SAMPLERS.items():
            mine = [points.get(f"{dimensions} {sampler} {budget}") for budget in BUDGETS]
            cells = [[f"{100 * point[name][0]:.1f}" for point in mine if point] for name in ("valid", "stable")]
            if all(mine):
                rows.append([dimensions, title, *cells[0], *cells[1]])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2000, help="of training, for each D")
    parser.add_argument("--molecules", type=int, default=250, help="drawn for each number of the table")
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    path = arguments.folder / "points.json"
    points: dict[str, dict[str, list[float]]] = json.loads(path.read_text()) if path.exists() else {}
    for dimensions in DIMENSIONS:
        model = train(arguments.data, arguments.folder, dimensions, arguments.steps)
        for sampler in SAMPLERS if dimensions is None else ("euler", "heun"):
            for budget in BUDGETS:
                name = f"{name_of(dimensions)} {sampler} {budget}"
                if name not in points:
                    points[name] = measure(model, sampler, budget, arguments.molecules)
                    path.write_text(json.dumps(points, indent=1))
                    print(name, points[name], flush=True)
    header = ["D", "sampler", *(f"valid, %: {n}" for n in BUDGETS), *(f"stable, %: {n}" for n in BUDGETS)]
    said = f"{processor()}; {arguments.steps:,} steps of training each, {arguments.molecules} molecules a number"
    widest = 98 / arguments.molecules**0.5  # of a share of a half
    text = f"{said}, whose 95 % intervals are +- {widest:.0f} at most.\n\n{table(header, rows_of(points))}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "claims.md", "pfgm", text)


if __name__ == "__main__":
    main()
