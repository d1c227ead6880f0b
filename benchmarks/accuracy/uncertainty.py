"""Do standard deviations say where a model is wrong? A committee and a last layer, on and off their training set.

    python -m benchmarks.accuracy.uncertainty DATA/molecules_ff/ethanol_botnet [RUN] [--members 4] [--steps 1500]

Trains a committee on ethanol (1,000 frames of molecular dynamics, and isolated atoms for the references) unless the
folder RUN holds one already, fits the last-layer uncertainty of its first member, and compares errors and standard
deviations: on test_MD, from the same dynamics, and on structures that are ever less like it: normal modes, methanol,
the removal of a hydrogen, dimers. One row for each set and kind of uncertainty:

| column | meaning |
|---|---|
| error, std | root mean squares, of energies in meV/atom, of forces (each component) in meV/A |
| correlation | Spearman's, of absolute error and standard deviation |
| within | errors smaller than the standard deviation; of calibrated Gaussian ones 68 % |
| flagged | structures whose standard deviation is above 95 % of those of test_MD; of forces the mean over atoms |
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from atomsml.dataset import Dataset, plan_batches, read_dataset
from atomsml.modelfile import load
from atomsml.potential import Predict
from atomsml.uncertainty import Committee, committee_files
from atomsml.uncertainty.last_layer import LastLayerUncertainty

SETS = ("test_MD", "test_norm_mode_874", "test_norm_mode_3005", "methanol", "test_H_removal", "test_dimers")
OPTIONS = ("--set", "model_options.channels=32", "--set", "model_options.cutoff=4.5", "--valid", "100")


@dataclass(frozen=True)
class Collected:
    """Errors and standard deviations of one quantity of a set."""

    error: np.ndarray  # (values,)
    std: np.ndarray  # (values,)
    of_structure: np.ndarray  # (structures,) standard deviation by which a structure is flagged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path, nargs="?", default=Path("uncertainty-run"))
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1500, help="of training, of each member; 8 structures each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.run.exists():
        train(arguments.data, arguments.run, arguments.members, arguments.steps)
    committee = Committee([load(file) for file in committee_files(arguments.run)])
    single = LastLayerUncertainty.load(arguments.run / "member-0" / "model.uncertainty.safetensors")
    print(f"last layer: {single.facts}", flush=True)
    print("| set | structures | uncertainty | error | std | correlation | within | flagged |")
    print("|---|---|---|---|---|---|---|---|")
    limits: dict[str, float] = {}
    for name in SETS:
        dataset = read(arguments.data, name)
        found = collect(committee, dataset)
        rows = {f"committee, {quantity}": values for quantity, values in found.items()}
        rows["last layer, energy"] = collect(single, dataset)["energy"]
        for kind, values in rows.items():
            limit = limits.setdefault(kind, float(np.quantile(values.of_structure, 0.95)))  # test_MD comes first
            print(f"| {name} | {len(dataset)} | {kind} | {describe(values, limit)} |", flush=True)


def train(data: Path, run: Path, members: int, steps: int) -> None:
    files = [word for name in ("train", "isolated_atoms") for word in ("--train", str(data / f"{name}.extxyz.xz"))]
    limits = ["--max-steps", str(steps), "--committee", str(members), "-o", str(run)]
    atomsml = [sys.executable, "-m", "atomsml.cli"]
    subprocess.run([*atomsml, "train", *files, *OPTIONS, *limits], check=True)
    subprocess.run([*atomsml, "uncertainty", str(run / "member-0")], check=True)


def read(data: Path, name: str) -> Dataset:
    if name != "methanol":
        return read_dataset(data / f"{name}.extxyz.xz")
    mixed = read_dataset(data / "test_eth_meth.extxyz.xz")
    return mixed.subset(np.flatnonzero(mixed.num_atoms == 6))  # the others are ethanol


def collect(predict: Predict, dataset: Dataset) -> dict[str, Collected]:
    """Energies per atom in meV, and forces in meV/A where both labels and standard deviations are there."""
    energy: list[tuple[np.ndarray, ...]] = []
    forces: list[tuple[np.ndarray, ...]] = []
    for indices in plan_batches(np.arange(len(dataset)), dataset.num_atoms, max_atoms=1000):
        graph = dataset.batch(indices)
        found = predict(graph)
        atoms = graph.atoms_per_system
        std = 1000 * (found["energy_std"] / atoms).numpy()
        energy.append((1000 * ((found.energy - graph.system_data["energy"]) / atoms).numpy(), std, std))
        if found.forces is not None and "forces_std" in found.atom_data and graph.atom_data["forces"].isfinite().all():
            error = 1000 * (found.forces - graph.atom_data["forces"]).flatten().numpy()
            variance = found["forces_std"].square().mean(dim=1)
            of_structure = torch.zeros(len(atoms), dtype=variance.dtype).index_add(0, graph.batch, variance) / atoms
            std = 1000 * found["forces_std"].flatten().numpy()
            forces.append((error, std, 1000 * of_structure.sqrt().numpy()))
    return {
        name: Collected(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for name, parts in (("energy", energy), ("forces", forces))
        if parts
    }


def describe(values: Collected, limit: float) -> str:
    error, std = (np.sqrt(np.mean(x**2)) for x in (values.error, values.std))
    correlation = spearmanr(np.abs(values.error), values.std).statistic
    within, flagged = np.mean(np.abs(values.error) < values.std), np.mean(values.of_structure > limit)
    return f"{error:.2f} | {std:.2f} | {correlation:.2f} | {100 * within:.0f} % | {100 * flagged:.0f} %"


if __name__ == "__main__":
    main()
