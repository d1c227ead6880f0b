"""Heat capacities of crystals at 300 K by models, beside those of density functional theory.

    python -m benchmarks.properties.heat_capacity DATA [--models universal-small sevennet-0] [--docs]

Binary crystals of Alexandria out of MatCalc-Bench (DATA/crystals/alexandria_binary_phonon_cv.json.gz), the first ones
of a random order that have at most twelve atoms, as `atomsml phonons` computes them with its defaults. A model is a
name or a file. Two minutes of a core.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from pathlib import Path

import ase
import numpy as np
import torch

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.phonons.harmonic import PhononSettings, phonons
from atomsml.properties.task import Failure
from atomsml.units import KJ_PER_MOL
from benchmarks.shared.reporting import DOCS, processor, replace_section, table

LARGEST = 12  # atoms
ROOM = 30  # which temperature is 300 K


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["universal-small", "sevennet-0"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/properties.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    structures, published = crystals(arguments.data, arguments.count)
    rows = [row(model, structures, published) for model in arguments.models]
    header = ["model", "crystals", "without an answer", "with imaginary modes"]
    header += ["mean error, J/K/mol", "mean absolute error, J/K/mol", "and of stable ones", "of it for each atom"]
    header += ["minutes of a core"]
    displaced = f"{len(structures)} crystals of 2 to {max(map(len, structures))} atoms"
    text = f"{displaced}; {processor()}, one thread, torch {torch.__version__}.\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "properties.md", "heat capacities", text)


def crystals(data: Path, count: int) -> tuple[list[ase.Atoms], np.ndarray]:
    """Structures, and their heat capacities in J/K for a mole of each."""
    with gzip.open(data / "crystals" / "alexandria_binary_phonon_cv.json.gz", "rt") as file:
        entries = json.load(file)
    order = np.random.default_rng(0).permutation(len(entries))
    chosen = [entries[i] for i in order if len(entries[i]["structure"]["sites"]) <= LARGEST][:count]
    structures = []
    for each in chosen:
        sites = each["structure"]["sites"]
        symbols = [site["species"][0]["element"] for site in sites]
        cell = each["structure"]["lattice"]["matrix"]
        structures.append(ase.Atoms(symbols, scaled_positions=[site["abc"] for site in sites], cell=cell, pbc=True))
    return structures, np.array([each["heat_capacity"] for each in chosen])


def row(model: str, structures: list[ase.Atoms], published: np.ndarray) -> list[str]:
    engine = Engine.of(AtomsMLCalculator(model, device="cpu"), structures[:4])
    found, stable, start = np.full(len(structures), np.nan), np.zeros(len(structures), bool), time.process_time()
    for i, each in phonons(structures, engine, PhononSettings()):
        if isinstance(each, Failure):
            print(f"{model}: {structures[i].symbols}: {each.reason}", file=sys.stderr)
            continue
        found[i] = 1000 * each.thermal.heat_capacity[ROOM] / KJ_PER_MOL
        stable[i] = each.mesh.unstable == 0
    minutes = (time.process_time() - start) / 60
    atoms = np.array(list(map(len, structures)))
    error = found - published
    answered = np.isfinite(found)
    return [
        Path(model).stem,
        f"{len(structures)}",
        f"{np.count_nonzero(~answered)}",
        f"{np.count_nonzero(answered & ~stable)}",
        f"{np.nanmean(error):+.2f}",
        f"{np.nanmean(np.abs(error)):.2f}",
        f"{np.mean(np.abs(error[stable])):.2f}",
        f"{np.mean(np.abs(error / atoms)[stable]):.3f}",
        f"{minutes:.1f}",
    ]


if __name__ == "__main__":
    main()
