"""Train the embedded models.

    python benchmarks/train_defaults.py organic-xtb    DATA/molecules_ff/organic_xtb.h5 --minutes 90
    python benchmarks/train_defaults.py refractory-pbe DATA/materials_ff                --minutes 45

The model file (default atomsml/models/NAME.safetensors) holds the averaged weights, the recipe, and the errors on the
test set, of which no molecule (by SMILES) or frame was seen in training; it is rewritten every few minutes. The
learning rate falls with wall time, so a run is repeated exactly only in its recipe, not in its number of steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atomsml.dataset.old import least_squares_references, read_extxyz, read_hdf5, split_of
from atomsml.graph import AtomicGraph
from atomsml.losses import LossWeights
from atomsml.modelfile import save
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.training import TrainingConfig, errors, fit

CUTOFF = 5.0
Splits = dict[str, list[AtomicGraph]]


@dataclass(frozen=True)
class Recipe:
    """What differs between the embedded models."""

    elements: tuple[int, ...]
    read: Callable[[Path], Splits]
    batch_atoms: int
    weights: LossWeights
    description: dict[str, Any]


def read_organic(path: Path) -> Splits:
    """Split by SMILES: every geometry of a molecule is in the same split. The few molecules with P are left out."""
    fractions = {"train": 0.94, "valid": 0.01, "test": 0.05}
    graphs, groups = read_hdf5(path, torch.float32)
    splits: Splits = {name: [] for name in fractions}
    for graph, group in zip(graphs, groups, strict=True):
        if not (graph.numbers == 15).any():
            splits[split_of(group, fractions)].append(graph.with_neighbors(CUTOFF))
    return splits


def read_refractory(folder: Path) -> Splits:
    """The published test sets are the test set; a frame of a test set that also stands elsewhere is left out there."""

    def frames(names: list[str]) -> list[AtomicGraph]:
        found = [g for n in names for g in read_extxyz(folder / f"{n}.extxyz.xz", torch.float32)]
        return [g.with_neighbors(CUTOFF) for g in found]

    elements, alloys = ("Nb", "Mo", "Ta", "W"), ("MoTa", "MoW", "NbMo", "NbTa", "NbW", "TaW")
    test = frames([f"nbmotaw/{e}_test" for e in elements] + ["mlearn/Mo_test"])
    rest = frames([f"nbmotaw/{e}_train" for e in (*elements, *alloys)] + ["mlearn/Mo_train"])
    seen = {_content(g) for g in test}
    splits: Splits = {"train": [], "valid": [], "test": test}
    for graph in rest:
        content = _content(graph)
        if content not in seen:
            splits[split_of(content, {"train": 0.97, "valid": 0.03})].append(graph)
    return splits


def _content(graph: AtomicGraph) -> str:
    """Hash of a frame by its energy and forces, which do not change when a frame is shifted or wrapped."""
    labels = torch.cat([graph.system_data["energy"], graph.atom_data["forces"].flatten()])
    return hashlib.sha256(labels.round(decimals=4).numpy().tobytes()).hexdigest()


RECIPES = {
    "organic-xtb": Recipe(
        elements=(1, 6, 7, 8, 9, 16, 17, 35),
        read=read_organic,
        batch_atoms=600,
        weights=LossWeights(energy=1.0, forces=1.0),
        description={
            "kind": "molecules",
            "licence": "MIT, as atomsml; the labels were computed for this project with GFN2-xTB (tblite)",
            "data": "GFN2-xTB energies and forces of ZINC molecules, their BRICS fragments, dimers and water clusters",
        },
    ),
    "refractory-pbe": Recipe(
        elements=(41, 42, 73, 74),
        read=read_refractory,
        batch_atoms=400,
        weights=LossWeights(energy=5.0, forces=1.0, stress=50.0),
        description={
            "kind": "crystals",
            "licence": "MIT, as atomsml; the labels (VASP, PBE) are those of two BSD-3-Clause data sets",
            "data": "Nb, Mo, Ta, W and their six binaries of Li et al., npj Comput. Mater. 6, 70 (2020); "
            "Mo of Zuo et al., J. Phys. Chem. A 124, 731 (2020)",
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    output = arguments.output or Path("atomsml/models") / f"{arguments.name}.safetensors"
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    train(arguments.name, arguments.data, output, arguments.minutes, arguments.seed)


def train(name: str, data: Path, output: Path, minutes: float, seed: int) -> None:
    recipe = RECIPES[name]
    splits = recipe.read(data)
    sizes = {split: len(graphs) for split, graphs in splits.items()}
    print(sizes, flush=True)
    torch.manual_seed(seed)
    model = build(recipe, splits["train"])
    training = TrainingConfig(minutes=minutes, batch_atoms=recipe.batch_atoms, weights=recipe.weights, seed=seed)
    facts = {**dataclasses.asdict(training), "structures": sizes, "data": recipe.description["data"]}
    metadata = {
        "name": name,
        "kind": recipe.description["kind"],
        "licence": recipe.description["licence"],
        "references_kind": "least squares",
        "training": facts,
    }
    next_report = 1.0
    for step in fit(model, splits["train"], training):
        if step.minutes >= next_report:
            measured = errors(step.averaged, splits["valid"])
            print(
                f"{step.minutes:6.1f} min  epoch {step.epoch}  step {step.number}  {json.dumps(measured)}", flush=True
            )
            save(step.averaged, output, {**metadata, "metrics": {"valid": measured}})
            next_report = step.minutes + 4
    facts["epochs"], facts["steps"] = step.epoch, step.number
    measured = errors(step.averaged, splits["test"])
    save(step.averaged, output, {**metadata, "metrics": {"test": measured}})
    print(json.dumps(measured, indent=1))


def build(recipe: Recipe, graphs: list[AtomicGraph]) -> MACE:
    """A MACE scaled to the training set: mean number of neighbours, root mean square force, energies per element."""
    config = MACEConfig(
        elements=recipe.elements,
        cutoff=CUTOFF,
        channels=64,
        hidden_lmax=1,
        lmax=2,
        correlation=3,
        radial_mlp=(32, 32),
        avg_num_neighbors=sum(g.num_edges for g in graphs) / sum(g.num_atoms for g in graphs),
        scale=torch.cat([g.atom_data["forces"] for g in graphs]).square().mean().sqrt().item(),
    )
    model = MACE(config)
    model.references = least_squares_references(graphs, recipe.elements)
    return model


if __name__ == "__main__":
    main()
