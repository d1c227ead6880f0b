"""What molecules that were asked for a property have of it: GFN2-xTB at their geometries, beside what was asked.

    python -m benchmarks.generation.conditioning [MODEL] [--docs]

For each property three values are asked for, near the quantiles of 10, 50 and 90 % of the training set. 100 molecules
each, of the same seeds, as trained (weight 1) and guided (weight 2); those that are not valid and connected are left
out. The error is the mean absolute difference from what was asked. `--docs` puts the table in
docs/generators/generate.md.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from tblite.interface import TBLiteRuntimeError

from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.molecules.metrics.evaluate import evaluate_molecules
from atomsml.generative.molecules.model import MoleculeModel, draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from benchmarks.recipes.train_generator import gap_and_dipole
from benchmarks.shared.reporting import DOCS, replace_section, table

ASKED = {"gap": (3.0, 4.5, 8.9), "dipole": (1.2, 2.9, 5.1)}
UNITS = {"gap": "eV", "dipole": "D"}
MOLECULES, BATCH, STEPS, SEED = 100, 50, 50, 3


def found(model: MoleculeModel, conditions: dict[str, float], guidance: float) -> dict[str, list[float]]:
    """Gap and dipole of the valid molecules that are drawn."""
    images = []
    for start in range(0, MOLECULES, BATCH):
        seeds = [sample_seed(SEED, start + i) for i in range(BATCH)]
        *_, batch = model.sample(draw_requests(model, seeds, conditions=conditions), STEPS, guidance=guidance)
        images += batch.to_ase()
    failures = evaluate_molecules(images, ("strict",)).suites["strict"].failures
    pairs = []
    for atoms, failure in zip(images, failures, strict=True):
        if not failure:
            try:
                pairs.append(gap_and_dipole(atoms.numbers, atoms.positions))
            except TBLiteRuntimeError:  # no self-consistent density, as at bad geometries
                continue
    return dict(zip(("gap", "dipole"), map(list, zip(*pairs, strict=True)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="qm9-flow")
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    model = load_generator(arguments.model)
    free = found(model, {}, 1.0)
    rows = []
    for name, values in ASKED.items():
        for value in values:
            row = [f"{name} {value:g} {UNITS[name]}"]
            for properties in (free, found(model, {name: value}, 1.0), found(model, {name: value}, 2.0)):
                error = np.mean(np.abs(np.array(properties[name]) - value))
                row += [f"{statistics.median(properties[name]):.2f}", f"{error:.2f}"]
            rows.append(row)
            print(*row, flush=True)
    header = ["asked", "median, not asked", "error", "median, weight 1", "error", "median, weight 2", "error"]
    text = table(header, rows)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "generators" / "generate.md", "conditioning", text)


if __name__ == "__main__":
    main()
