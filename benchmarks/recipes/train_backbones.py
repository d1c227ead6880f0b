"""Train the embedded generator of backbones from its recipe.

    python -m benchmarks.recipes.train_backbones DATA/proteins -o FOLDER [--install]

Runs `atomsml train benchmarks/recipes/backbones.yaml` in FOLDER; again after a stop, it goes on.
FOLDER/backbones-small.safetensors is the generator with its description; `--install` puts it in the place of the
embedded one.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from atomsml.generative.core.modelfile import load_generator, save_generator
from atomsml.modelfile import MODELS_FOLDER, read_metadata
from benchmarks.recipes.train_generator import train

NAME = "backbones-small"
DESCRIPTION = {
    "name": NAME,
    "licence": "MIT, as atomsml; coordinates of the Protein Data Bank are in the public domain (CC0)",
    "data": "windows of 160 X-ray chains of the Protein Data Bank (the sets PSICOV and TS50)",
}


def describe(trained: Path, new: Path) -> None:
    """The model of a run with its description."""
    save_generator(load_generator(trained), new, {**read_metadata(str(trained)), **DESCRIPTION})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--install", action="store_true")
    arguments = parser.parse_args()
    data, folder = arguments.data.resolve(), arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # so that the description of the model knows the files by their names alone
    if not Path("proteins").exists():
        Path("proteins").symlink_to(data)
    train("backbones", Path("run"))
    new = folder / f"{NAME}.safetensors"
    describe(Path("run/model.safetensors"), new)
    if arguments.install:
        shutil.copyfile(new, MODELS_FOLDER / new.name)


if __name__ == "__main__":
    main()
