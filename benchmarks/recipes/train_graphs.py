"""Train the embedded generator of graphs from its recipe.

    python -m benchmarks.recipes.train_graphs DATA/molecules_static/smiles/qm9_smiles.csv.gz -o FOLDER [--install]

Writes the molecules without formal charges to FOLDER/graphs.smi and trains there by the recipe qm9-graphs.yaml; again
after a stop, it goes on. FOLDER/qm9-graphs.safetensors is the generator with its description; `--install` puts it in
the place of the embedded one.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from atomsml.cli.main import main as atomsml
from atomsml.generative.core.modelfile import load_generator, save_generator
from atomsml.io.formats.smiles import smiles_lines
from atomsml.io.formats.source import Source
from atomsml.modelfile import MODELS_FOLDER, read_metadata

NAME = "qm9-graphs"
RECIPE = Path(__file__).parent.resolve() / f"{NAME}.yaml"
DESCRIPTION = {
    "licence": "MIT, as atomsml",
    "data": "the bond graphs of QM9's list of molecules that have no formal charges",
}


def install(trained: Path, new: Path) -> None:
    """The model of a run with its description."""
    save_generator(load_generator(trained), new, {**read_metadata(str(trained)), "name": NAME, **DESCRIPTION})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--install", action="store_true")
    arguments = parser.parse_args()
    data, folder = arguments.data.resolve(), arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # so that the description of the model knows the files by their names alone
    plain = [smiles for _, smiles, _ in smiles_lines(Source(data)) if "+" not in smiles]
    Path("graphs.smi").write_text("\n".join([*plain, ""]))
    recipe = ["train", str(RECIPE), "-o", "run"]
    try:
        atomsml([*recipe, "--resume"] if Path("run/checkpoint.safetensors").exists() else recipe)
    except SystemExit as stop:
        if stop.code:
            raise
    new = folder / f"{NAME}.safetensors"
    install(Path("run/model.safetensors"), new)
    if arguments.install:
        shutil.copyfile(new, MODELS_FOLDER / new.name)


if __name__ == "__main__":
    main()
