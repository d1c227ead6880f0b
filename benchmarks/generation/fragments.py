"""Fragments of held-out molecules, continued by a generator that grows: how many become valid molecules.

    python -m benchmarks.generation.fragments MODEL MOLECULES... [-n 200] [--sampler masked] [-o FOLDER]

MODEL was trained on MOLECULES with the configuration in its file; what that held out is cut. A fragment is the first
half of the atoms of a random order (`symphony/fragments.py`), hydrogens among them or not as in training, and is
continued once, by `atomsml generate molecules --fragment`, from a file in FOLDER into another, which is read back. One
whose valences are all used up is cut anew. Printed are shares with intervals of 95 %; the time is that of the commands.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
import torch

from atomsml.cli.main import main as atomsml
from atomsml.config import config_from_json
from atomsml.generative.core.set import hold_out
from atomsml.generative.core.training.config import GeneratorConfig
from atomsml.generative.molecules.metrics.perception import perceive
from atomsml.generative.molecules.metrics.strict import strict
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.molecules import Scaffold
from atomsml.generative.molecules.symphony.fragments import grow
from atomsml.generative.molecules.symphony.model import HEAVY_FIRST, Symphony
from atomsml.generative.molecules.symphony.valence_state import ValenceState
from atomsml.modelfile import find_model, read_metadata


def cut(model: Symphony, numbers: np.ndarray, positions: np.ndarray, rng: np.random.Generator) -> Scaffold | None:
    """The first half of an order; None where all valences are used up."""
    species = np.searchsorted(model.config.elements, numbers)[None]
    heavy_first = rng.random(1) < HEAVY_FIRST
    order = grow(species, numbers[None] > 1, positions[None], heavy_first, len(model.config.elements), rng).order[0]
    kept = order[: (len(order) + 1) // 2]
    state = ValenceState()
    for i in kept:
        state.add(int(numbers[i]), positions[i].astype(np.float64))
    if max(state.open) == 0:
        return None
    return Scaffold(tuple(numbers[kept].tolist()), torch.from_numpy(positions[kept].astype(np.float64)))


def continued(path: Path, fragment: Scaffold, arguments: argparse.Namespace) -> tuple[ase.Atoms, ase.Atoms]:
    """The fragment and the molecule that grew from it, as the files have them."""
    core, grown = path.with_suffix(".core.xyz"), path.with_suffix(".xyz")
    ase.io.write(core, ase.Atoms(fragment.numbers, fragment.positions.numpy()))
    words = ["-m", arguments.model, "-n", "1", "--sampler", arguments.sampler, "--fragment", str(core)]
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(io.StringIO()):
        try:
            atomsml(["generate", "molecules", *words, "-o", str(grown)])
        except SystemExit as stop:
            if stop.code:
                raise
    return ase.io.read(core), ase.io.read(grown)


def holds(molecule: ase.Atoms, fragment: ase.Atoms) -> bool:
    """Whether the first atoms are those of the fragment, to the last bit."""
    first = molecule[: len(fragment)]
    return bool((first.numbers == fragment.numbers).all() and (first.positions == fragment.positions).all())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("molecules", nargs="+")
    parser.add_argument("-n", "--number", type=int, default=200)
    parser.add_argument("--sampler", default="masked")
    parser.add_argument("-o", "--output", type=Path, help="where the files go and stay")
    arguments = parser.parse_args()
    model = load_generator(arguments.model)
    if not isinstance(model, Symphony):
        raise SystemExit(f"{arguments.model} grows no fragments")
    training = read_metadata(find_model(arguments.model))["training"]["config"]
    config = config_from_json(GeneratorConfig, training)
    _, held = hold_out(model.read(arguments.molecules), config.data.valid, config.seed)
    rng, fragments = np.random.default_rng(0), []
    while len(fragments) < arguments.number:
        row = rng.integers(len(held))
        atoms = slice(*held.offsets[row : row + 2])
        fragment = cut(model, held.numbers[atoms], held.positions[atoms], rng)
        fragments += [] if fragment is None else [fragment]
    started = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.output or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        pairs = [continued(folder / f"{i:03}", each, arguments) for i, each in enumerate(fragments)]
    grown = [molecule for _, molecule in pairs]
    kept = sum(holds(molecule, fragment) for fragment, molecule in pairs)
    print(f"{len(grown)} fragments, {kept} of them with all atoms where they were to the last bit, in the files")
    print(f"{time.process_time() - started:.1f} s on the CPU")
    for name, metric in strict(grown, list(perceive(grown))).metrics.items():
        print(f"{name:16s} {100 * metric.value:5.1f} %  ({100 * metric.low:.1f} ... {100 * metric.high:.1f})")


if __name__ == "__main__":
    main()
