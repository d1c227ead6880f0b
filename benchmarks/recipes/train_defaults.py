"""Train the models that come with atomsml from their recipes, and compare them with those that are embedded now.

    python -m benchmarks.recipes.train_defaults organic-xtb DATA/molecules_ff/organic_xtb.h5 MADE -o FOLDER
    python -m benchmarks.recipes.train_defaults refractory-pbe DATA/materials_ff -o FOLDER
    python -m benchmarks.recipes.train_defaults universal-small DATA/materials_ff -o FOLDER

MADE is a folder with binding, polar, collisions and stacks.extxyz of `benchmarks.recipes.make_binding_set`.

Writes the training, validation and test sets to FOLDER, runs `atomsml train benchmarks/recipes/NAME.yaml` there (again
after a stop: it goes on where it was; universal-small is trained twice, with two recipes, and is the mean of the two
models), and prints the errors of the new and of the embedded model, if there is one, on the test set, of which neither
has seen a molecule (by SMILES), a frame or a crystal (by group). FOLDER/NAME.safetensors is the new model with its
description; `--install` puts it in the place of the embedded one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from atomsml.cli.main import main as atomsml
from atomsml.dataset import Dataset, read_dataset, write_dataset
from atomsml.modelfile import MODELS_FOLDER, embedded_models, load, read_metadata, save
from atomsml.potential import Potential, Predict, evaluate
from atomsml.potentials.mace import MACE
from atomsml.training.config import BatchConfig
from atomsml.training.evaluation.metrics import format_table, measure
from atomsml.training.loader import Loader
from benchmarks.recipes.reach import reach_further

RECIPES = Path(__file__).parent.resolve()
DESCRIPTIONS = {
    "organic-xtb": {
        "kind": "molecules",
        "charge": 0,
        "spin": 1,
        "theory": "GFN2-xTB",
        "licence": "MIT, as atomsml; the labels were computed for this project with GFN2-xTB (tblite)",
        "data": "GFN2-xTB energies and forces of ZINC molecules, their BRICS fragments, dimers, clusters, hydrogen "
        "bonds, stacked rings, collisions and squeezed molecules",
    },
    "refractory-pbe": {
        "kind": "crystals",
        "charge": 0,
        "spin": None,
        "theory": "PBE",
        "licence": "MIT, as atomsml; the labels (VASP, PBE) are those of two BSD-3-Clause data sets",
        "data": "Nb, Mo, Ta, W and their six binaries of Li et al., npj Comput. Mater. 6, 70 (2020); "
        "Mo of Zuo et al., J. Phys. Chem. A 124, 731 (2020)",
    },
    "universal-small": {
        "kind": "crystals",
        "charge": 0,
        "spin": None,
        "theory": "PBE(+U)",
        "note": "a small student of SevenNet for 89 elements: a first look, larger models are more accurate",
        "licence": "MIT, as atomsml; most labels are a mean of SevenNet-l3i5 and SevenNet-0 (MIT), computed for this "
        "project for structures of the Materials Project, WBM and others (CC BY 4.0); DFT frames of MatterSim's "
        "repository (MIT)",
        "data": "crystals of 89 elements and strained, rattled, hot, sliced and otherwise changed variants of them, "
        "labelled by two SevenNet models; last 1,678 hot or compressed DFT frames",
    },
}


def split_organic(molecules: Path, folder: Path) -> dict[str, Dataset]:
    """By SMILES: every geometry of a molecule is in the same split. The few molecules with P are left out.

    The test set of the first file is that of earlier models; those of the folder are `test_binding` and `test_stacks`.
    """
    dataset = read_dataset(molecules)
    with_phosphorus = np.concatenate([counts[:, 15] > 0 for _, counts in dataset.compositions()])
    first = split_groups(dataset.subset(np.flatnonzero(~with_phosphorus)), valid=0.01, test=0.05)
    files = [folder / f"{name}.extxyz" for name in ("binding", "collisions", "polar", "stacks")]
    made = [split_groups(read_dataset(path), valid=0.01, test=0.05) for path in files]
    return {
        "train": Dataset.concatenate([first["train"], *(part["train"] for part in made[:2])]),
        "train_polar": made[2]["train"],
        "train_stacks": made[3]["train"],
        "valid": Dataset.concatenate([first["valid"], *(part["valid"] for part in made[:3])]),
        "test": first["test"],
        "test_binding": Dataset.concatenate([part["test"] for part in made[:3]]),
        "test_stacks": made[3]["test"],
    }


def split_universal(folder: Path) -> dict[str, Dataset]:
    """The teachers' set by crystal: all variants of one are in the same split; the DFT frames by formula.

    The random frames of MPtrj and those at random temperature and pressure are test sets as a whole; a formula of
    theirs is not trained on with DFT labels.
    """
    names = ("mptrj-random-1k", "random-TP", "mptrj-highest-stress-1k", "mpf-TP")
    mptrj, hot, *others = (read_dataset(folder / "mattersim" / f"{name}.extxyz.xz") for name in names)
    tested = {*_formulas(mptrj), *_formulas(hot)}
    dft = Dataset.concatenate(others)
    position = np.array([1.0 if formula in tested else _position(formula) for formula in _formulas(dft)])
    forces = dft.batch(np.arange(len(dft))).atom_data["forces"].abs().amax(dim=1).numpy()
    gentle = np.maximum.reduceat(forces, np.cumsum(dft.num_atoms) - dft.num_atoms) < LARGEST_FORCE
    return {
        **split_groups(read_dataset(folder / "universal_sevennet.h5"), valid=0.01, test=0.02),
        "dft_train": dft.subset(np.flatnonzero(gentle & (position < 0.85))),
        "dft_valid": dft.subset(np.flatnonzero(gentle & (position >= 0.85) & (position < 0.9))),
        "test_dft": dft.subset(np.flatnonzero((position >= 0.9) & (position < 1.0))),
        "test_mptrj": mptrj,
        "test_hot": hot,
    }


def _formulas(dataset: Dataset) -> list[str]:
    counts = np.concatenate([block for _, block in dataset.compositions()])
    return [" ".join(f"{z}:{n}" for z, n in enumerate(row // np.gcd.reduce(row)) if n) for row in counts]


def split_groups(dataset: Dataset, valid: float, test: float) -> dict[str, Dataset]:
    """Groups by their hash: the last fraction `test` of all hashes, before it `valid`."""
    position = np.array([_position(group) for group in dataset.groups])
    bounds = {"train": (0.0, 1 - valid - test), "valid": (1 - valid - test, 1 - test), "test": (1 - test, 1.0)}
    return {
        name: dataset.subset(np.flatnonzero((position >= low) & (position < high)))
        for name, (low, high) in bounds.items()
    }


def split_refractory(folder: Path) -> dict[str, Dataset]:
    """The published test sets are the test set; a frame of a test set that also stands elsewhere is left out there."""

    def frames(names: list[str]) -> Dataset:
        return Dataset.concatenate([read_dataset(folder / f"{name}.extxyz.xz") for name in names])

    elements, alloys = ("Nb", "Mo", "Ta", "W"), ("MoTa", "MoW", "NbMo", "NbTa", "NbW", "TaW")
    test = frames([f"nbmotaw/{e}_test" for e in elements] + ["mlearn/Mo_test"])
    rest = frames([f"nbmotaw/{e}_train" for e in (*elements, *alloys)] + ["mlearn/Mo_train"])
    seen = {_labels(test, i) for i in range(len(test))}
    contents = [_labels(rest, i) for i in range(len(rest))]
    fresh = np.array([content not in seen for content in contents])
    valid = np.array([_position(content) >= 0.97 for content in contents])
    return {
        "train": rest.subset(np.flatnonzero(fresh & ~valid)),
        "valid": rest.subset(np.flatnonzero(fresh & valid)),
        "test": test,
    }


SPLITS: dict[str, Callable[..., dict[str, Dataset]]] = {
    "organic-xtb": split_organic,
    "refractory-pbe": split_refractory,
    "universal-small": split_universal,
}


# one after the other, each in a folder of its own; every later one goes on from the model of the one before
RECIPES_OF = {"universal-small": {"universal-small": "run", "universal-small-dft": "run_dft"}}
LARGEST_FORCE = 50.0  # eV/A, of DFT frames to learn from

# cutoff (A), Bessel functions and inner cutoff (A) of the model to train on; both get the short-range core
REACH = {"organic-xtb": (6.0, 12, 0.6), "refractory-pbe": (5.0, 8, 1.7)}


def _position(group: str) -> float:
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64


def _labels(dataset: Dataset, index: int) -> str:
    """Hash of a frame by its energy and forces, which do not change when a frame is shifted or wrapped."""
    graph = dataset[index]
    labels = torch.cat([graph.system_data["energy"], graph.atom_data["forces"].flatten()]).float()
    return hashlib.sha256(labels.round(decimals=4).numpy().tobytes()).hexdigest()


def compare(new: Path, name: str, path: Path, stress: bool) -> dict[str, Any]:
    """Print the errors of the new and the embedded model on a test set; returns the new ones."""
    test, tables = read_dataset(path), {}
    embedded = [("embedded", name)] if name in embedded_models() else []
    for label, model in (*embedded, ("new", str(new))):
        potential = load(model)

        def predict(graph: Any, potential: Any = potential) -> Any:
            return evaluate(potential, graph, stress=stress)

        asked: Predict = predict
        loader = Loader(test, potential.cutoff, BatchConfig(structures=None, atoms=2000), seed=0)
        batches = ((graph, [""] * len(indices)) for graph, indices in loader.in_order())
        tables[label] = measure(asked, batches, [""], test.elements).table()["all"]
    header, rows = format_table(tables, path.stem)
    print("  ".join(header), *("  ".join(row) for row in rows), sep="\n")
    return tables["new"]


def train(recipe: Path, run: str) -> None:
    """`atomsml train`, or what is left of it."""
    resumed = ["--resume"] if Path(run, "checkpoint.safetensors").exists() else []
    try:
        atomsml(["train", str(recipe), "-o", run, *resumed])
    except SystemExit as stop:
        if stop.code:
            raise


def mean(models: Sequence[str]) -> Potential:
    """The mean of the weights of models of which each was trained on from the one before.

    It keeps more of what the first knew than the last does (Wortsman et al., arXiv:2109.01903).
    """
    first, *others = (load(model) for model in models)
    with torch.no_grad():
        for name, weight in first.named_parameters():
            weight.copy_(torch.stack([weight, *(other.get_parameter(name) for other in others)]).mean(0))
    return first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SPLITS)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--install", action="store_true")
    arguments = parser.parse_args()
    name, data, folder = arguments.name, [path.resolve() for path in arguments.data], arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    for part, dataset in SPLITS[name](*data).items():
        if not Path(f"{part}.h5").exists():
            write_dataset(f"{part}.h5", (columns for _, columns in dataset.blocks()))
    if name in REACH and not Path("start.safetensors").exists():
        embedded = cast(MACE, load(name))
        save(reach_further(embedded, *REACH[name]), "start.safetensors", read_metadata(name))
    runs = RECIPES_OF.get(name, {name: "run"})
    for recipe, run in runs.items():
        train(RECIPES / f"{recipe}.yaml", run)
    models = [f"{run}/model.safetensors" for run in runs.values()]
    model, about = mean(models), read_metadata(models[-1])
    described = {**about, "name": name, **DESCRIPTIONS[name]}
    new = folder / f"{name}.safetensors"
    save(model, new, described)
    stress = DESCRIPTIONS[name]["kind"] == "crystals"
    measured = {path.stem: compare(new, name, path, stress) for path in sorted(folder.glob("test*.h5"))}
    save(model, new, {**described, "metrics": measured})
    if arguments.install:
        shutil.copyfile(new, MODELS_FOLDER / new.name)


if __name__ == "__main__":
    main()
