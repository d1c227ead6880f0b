"""How good drawn bond graphs are: different, new, and with functional groups and rings as often as in the data.

    python -m benchmarks.generation.graphs GRAPHS.smi [-m qm9-graphs] [-n 1000] [--docs]

GRAPHS.smi is the list that the generator was trained on; the part that training held out by the seed of the recipe is
the reference of the suite `composition`. Each number of steps draws the same seeds. Times are CPU times of one thread.
`--docs` puts the tables in docs/generators/graphs.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem

from atomsml.generative.core.metrics import SuiteResult
from atomsml.generative.core.modelfile import load_generator
from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.core.set import SampleSet, hold_out
from atomsml.generative.graphs.data import read_graphs
from atomsml.generative.graphs.model import GraphModel
from atomsml.generative.molecules.metrics.composition import FREQUENT, Profile, composition, profile
from atomsml.generative.molecules.metrics.groups import FEATURES
from benchmarks.shared.reporting import DOCS, replace_section, table

HELD_OUT, SEED = 0.05, 0  # of the recipe
STEPS = (36, 18, 9)  # pairs of nine heavy atoms, half, a quarter


@dataclass(frozen=True)
class Drawn:
    smiles: list[str]
    suite: SuiteResult
    milliseconds: float  # of a graph


def smiles_of(samples: SampleSet[Any]) -> list[str]:
    return [Chem.MolToSmiles(mol) for mol in samples.batch(np.arange(len(samples))).to_mols()]


def draw(model: GraphModel, number: int, steps: int, reference: Profile) -> Drawn:
    requests = model.requests([sample_seed(SEED, i) for i in range(number)])
    mols, start = [], time.process_time()
    for places in model.batches(requests):
        *_, graphs = model.sample([requests[place] for place in places], steps)
        mols += graphs.to_mols()
    spent = time.process_time() - start
    return Drawn([Chem.MolToSmiles(mol) for mol in mols], composition(mols, reference), 1e3 * spent / number)


def row(drawn: Drawn, steps: int, train: set[str]) -> list[str]:
    """Percentages; a graph is valid if RDKit reads its SMILES as one neutral molecule."""
    number, different = len(drawn.smiles), set(drawn.smiles)
    read = [Chem.MolFromSmiles(smiles) for smiles in drawn.smiles]
    valid = sum(m is not None and len(Chem.GetMolFrags(m)) == 1 and Chem.GetFormalCharge(m) == 0 for m in read)
    metrics = drawn.suite.metrics
    return [
        str(steps),
        f"{100 * valid / number:.1f}",
        f"{100 * len(different) / number:.1f}",
        f"{100 * len(different - train) / len(different):.1f}",
        *(f"{metrics[name].value:.3f}" for name in ("distance", "groups_distance", "ring_sizes_distance")),
        *(f"{metrics[name].value:.2f}" for name in ("mean_factor", "worst_factor")),
        f"{drawn.milliseconds:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model", default="qm9-graphs")
    parser.add_argument("-n", "--number", type=int, default=1000)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    samples: SampleSet[Any] = read_graphs([arguments.data])
    train, held = (smiles_of(part) for part in hold_out(samples, HELD_OUT, SEED))
    reference = profile([Chem.MolFromSmiles(smiles) for smiles in held])
    model = load_generator(arguments.model)
    assert isinstance(model, GraphModel)
    drawn = {steps: draw(model, arguments.number, steps, reference) for steps in STEPS}
    best = drawn[STEPS[0]].suite
    noise = [f"{best.reference[n].value:.3f}" for n in ("distance", "groups_distance", "ring_sizes_distance")]
    noise += [f"{best.reference[n].value:.2f}" for n in ("mean_factor", "worst_factor")]
    heads = ["steps", "valid %", "different %", "new, of these, %", "distance", "groups", "ring sizes", "mean factor"]
    rows = [row(found, steps, set(train)) for steps, found in drawn.items()]
    quality = table([*heads, "worst factor", "ms"], [*rows, ["as many of the data", "", "", "", *noise, ""]])
    frequent = [name for name in FEATURES if best.reference[name].value >= FREQUENT]
    suites = [found.suite.types for found in drawn.values()]
    shares = [[name, *(f"{100 * types[name].value:.1f}" for types in (*suites, best.reference))] for name in frequent]
    groups = table(["share of molecules, %", *(f"{steps} steps" for steps in STEPS), "data"], shares)
    print(quality, groups, sep="\n")
    if arguments.docs:
        replace_section(DOCS / "generators" / "graphs.md", "quality", quality + "\n" + groups)


if __name__ == "__main__":
    main()
