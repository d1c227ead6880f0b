"""Train an embedded generator of molecules from its recipe.

    python -m benchmarks.recipes.train_generator DATA/molecules_static/qm9_xtb.h5 -o FOLDER [--name NAME] [--install]

Writes the molecules to FOLDER/molecules.h5 and runs `atomsml train benchmarks/recipes/NAME.yaml` there; again after a
stop, it goes on. For qm9-graph-flow, a generator of graphs is tuned to these molecules first. FOLDER/NAME.safetensors
is the generator with its description; `--install` puts it in the place of the embedded one. For qm9-flow they get
two properties of the GFN2-xTB wave function at their geometries (tblite; 20 ms each): `gap`, between the highest
occupied and the lowest empty orbital in eV, and `dipole`, its length in debye.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
from ase.units import Bohr, Debye, Hartree
from tblite.interface import Calculator

from atomsml.cli.main import main as atomsml
from atomsml.generative.core.modelfile import load_generator, save_generator
from atomsml.io import write_atomically
from atomsml.modelfile import MODELS_FOLDER, read_metadata

RECIPES = Path(__file__).parent.resolve()
COPIED = ("offsets", "numbers", "positions", "smiles")
LICENCE = "MIT, as atomsml; the geometries were computed for this project with GFN2-xTB (tblite)"
GEOMETRIES = "a GFN2-xTB geometry of each of 21,276 molecules of QM9's list"
DATA = {  # by name: what is said of the training data
    "qm9-flow": f"{GEOMETRIES}; gap in eV and dipole in debye by GFN2-xTB",
    "qm9-graph-flow": f"{GEOMETRIES}; its generator of graphs learnt from those of QM9's list before",
    "qm9-symphony": GEOMETRIES,
}


def gap_and_dipole(numbers: np.ndarray, positions: np.ndarray) -> tuple[float, float]:
    """eV and debye, of one neutral closed-shell molecule by GFN2-xTB."""
    calculator = Calculator("GFN2-xTB", numbers, positions / Bohr)
    calculator.set("verbosity", 0)
    result = calculator.singlepoint()
    energies, occupied = result.get("orbital-energies"), round(result.get("orbital-occupations").sum() / 2)
    gap = (energies[occupied] - energies[occupied - 1]) * Hartree
    return float(gap), float(np.linalg.norm(result.get("dipole")) * Bohr / Debye)


def write_molecules(source: Path, target: Path, with_properties: bool) -> None:
    """The arrays that training reads, and the two properties."""
    with h5py.File(source) as file:
        arrays = {name: file[name][:] for name in COPIED}
    if with_properties:
        ends = arrays["offsets"][1:-1]
        pairs = zip(np.split(arrays["numbers"], ends), np.split(arrays["positions"].astype(float), ends), strict=True)
        properties = np.array([gap_and_dipole(numbers, positions) for numbers, positions in pairs])
        arrays |= {"gap": properties[:, 0], "dipole": properties[:, 1]}

    def write(beside: Path) -> None:
        with h5py.File(beside, "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values)

    write_atomically(target, write)


def train(recipe: str, folder: Path) -> None:
    """Run a recipe, or go on with what there is of it."""
    words = ["train", str(RECIPES / f"{recipe}.yaml"), "-o", str(folder)]
    try:
        atomsml([*words, "--resume"] if (folder / "checkpoint.safetensors").exists() else words)
    except SystemExit as stop:
        if stop.code:
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--name", choices=list(DATA), default="qm9-graph-flow")
    parser.add_argument("--install", action="store_true")
    arguments = parser.parse_args()
    data, folder, name = arguments.data.resolve(), arguments.output.resolve(), arguments.name
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # so that the description of the model knows the files by their names alone
    if not Path("molecules.h5").exists():
        write_molecules(data, Path("molecules.h5"), name == "qm9-flow")
    if name == "qm9-graph-flow":
        train(f"{name}-graphs", Path("graphs"))
    train(name, Path("run"))
    new = folder / f"{name}.safetensors"
    about = {**read_metadata("run/model.safetensors"), "name": name, "licence": LICENCE, "data": DATA[name]}
    save_generator(load_generator("run/model.safetensors"), new, about)
    if arguments.install:
        shutil.copyfile(new, MODELS_FOLDER / new.name)


if __name__ == "__main__":
    main()
