"""Fragments of held-out molecules, continued by a generator that grows: how many become valid molecules.

    python -m benchmarks.generation.fragments MODEL MOLECULES... [-n 200] [--sampler masked]

MODEL was trained on MOLECULES with the configuration in its file; what that held out is cut. A fragment is the first
half of the atoms of a random order (`symphony/fragments.py`), hydrogens among them or not as in training, and is
continued once. One whose valences are all used up is cut anew. Printed are shares with intervals of 95 %.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from atomsml.config import config_from_json
from atomsml.generative.core.sampling import sample_seed
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("molecules", nargs="+")
    parser.add_argument("-n", "--number", type=int, default=200)
    parser.add_argument("--sampler", default="masked")
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
    requests = model.requests([sample_seed(0, i) for i in range(len(fragments))])
    *_, last = model.continued(requests, fragments, model.default_steps, arguments.sampler)
    grown = model.unpack(last)
    pairs = zip(grown, fragments, strict=True)
    kept = sum(bool((a.positions[: len(f.numbers)] == f.positions.numpy()).all()) for a, f in pairs)
    print(f"{len(grown)} fragments, {kept} of them with all atoms where they were to the last bit")
    print(f"{time.process_time() - started:.1f} s on the CPU")
    for name, metric in strict(grown, list(perceive(grown))).metrics.items():
        print(f"{name:16s} {100 * metric.value:5.1f} %  ({100 * metric.low:.1f} ... {100 * metric.high:.1f})")


if __name__ == "__main__":
    main()
