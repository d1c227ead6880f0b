"""What elastic constants cost: all crystals in batches, beside a loop with ASE, with the same model.

    python -m benchmarks.properties.elastic [--model universal-small] [--docs]

Ten crystals of 1 to 12 atoms. With ASE each is relaxed (FrechetCellFilter), then strained along six directions by four
magnitudes, and the atoms of each copy are relaxed; BFGS and FIRE, both to the same fmax. The tensor is a fit to all 24
stresses. Ours are with the strains that symmetry leaves, as by default, and with all six. Each way has a process of
one thread and does all crystals once, after one crystal to warm up; time is that of the processor. A minute. `--docs`
puts the table into docs/properties/elastic.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import ase
import numpy as np
import torch
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE
from ase.spacegroup import crystal

from atomsml import AtomsMLCalculator
from atomsml.properties.elasticity.elastic import AT_REST, ElasticConstants, ElasticSettings, elastic_constants
from atomsml.properties.elasticity.tensor import BASIS, ElasticTensor, to_mandel
from atomsml.properties.engine import Engine
from atomsml.units import GPA
from benchmarks.shared.peers import Program, answer_words
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

STRAINS = (-0.005, -0.0025, 0.0025, 0.005)
Tensors = list[list[list[float]]]  # (crystals, 6, 6), GPa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="universal-small")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/properties/elastic.md")
    parser.add_argument("--answer", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.answer:
        way, calculator = WAYS[arguments.answer], AtomsMLCalculator(arguments.model, device="cpu")
        answer_words({"constants": lambda: measured(way, calculator)})
        return
    found = {}
    for name in WAYS:
        command = [sys.executable, "-m", "benchmarks.properties.elastic", "--model", arguments.model, "--answer", name]
        with Program(command, threads=1) as program:
            found[name] = program.ask("constants")
        print(name, json.dumps(found[name]["seconds"]), file=sys.stderr)
    text = report(found, arguments.model)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "properties" / "elastic.md", "cost", text)


def crystals() -> list[ase.Atoms]:
    """As their names say, not at the minimum of any model; out of symmetric places, which a relaxation keeps."""
    rutile, perovskite = [4.6, 4.6, 2.96, 90, 90, 90], [3.9, 3.9, 3.9, 90, 90, 90]
    some = [
        bulk("Cu"),
        bulk("W"),
        bulk("Ti"),
        bulk("Si"),
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("ZnO", "wurtzite", a=3.25, c=5.2),
        bulk("GaAs", "zincblende", a=5.65),
        crystal("TiO", [(0, 0, 0), (0.305, 0.305, 0)], None, 136, 1, rutile),
        crystal("SrTiO", [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], None, 221, 1, perovskite),
        crystal("CaF", [(0, 0, 0), (0.25, 0.25, 0.25)], None, 225, 1, [5.46] * 3 + [90] * 3),
    ]
    return [ase.Atoms(each.numbers, each.positions, cell=each.cell.array, pbc=True) for each in some]


def measured(way: Callable[..., Tensors], calculator: AtomsMLCalculator) -> dict[str, object]:
    way(crystals()[3:4], calculator)
    start = time.process_time()
    return {"tensors": way(crystals(), calculator), "seconds": time.process_time() - start}


def ours(symmetry: bool) -> Callable[..., Tensors]:
    def way(structures: list[ase.Atoms], calculator: AtomsMLCalculator) -> Tensors:
        tensors = {}
        for i, found in elastic_constants(structures, Engine.of(calculator), ElasticSettings(symmetry=symmetry)):
            assert isinstance(found, ElasticConstants), found
            tensors[i] = found.tensor.voigt.tolist()
        return [tensors[i] for i in range(len(structures))]

    return way


def by_ase(optimizer: type[BFGS] | type[FIRE]) -> Callable[..., Tensors]:
    def way(structures: list[ase.Atoms], calculator: AtomsMLCalculator) -> Tensors:
        tensors = []
        for atoms in structures:
            atoms.calc = calculator
            optimizer(FrechetCellFilter(atoms), logfile=None).run(fmax=AT_REST.fmax, steps=AT_REST.steps)
            strains, stresses = [], []
            for matrix in BASIS:
                for size in STRAINS:
                    image = atoms.copy()
                    image.set_cell(atoms.cell.array @ (np.eye(3) + size * matrix), scale_atoms=True)
                    image.calc = calculator
                    optimizer(image, logfile=None).run(fmax=AT_REST.fmax, steps=AT_REST.steps)
                    strains.append(size * matrix)
                    stresses.append(image.get_stress(voigt=False) / GPA)
            fitted, *_ = np.linalg.lstsq(to_mandel(np.array(strains)), to_mandel(np.array(stresses)), rcond=None)
            tensors.append(ElasticTensor.of_mandel((fitted + fitted.T) / 2).voigt.tolist())
        return tensors

    return way


WAYS: dict[str, Callable[..., Tensors]] = {
    "atomsml": ours(symmetry=True),
    "atomsml, all six strains": ours(symmetry=False),
    "ASE, BFGS": by_ase(BFGS),
    "ASE, FIRE": by_ase(FIRE),
}


def report(found: dict[str, dict[str, object]], model: str) -> str:
    first, *_ = found.values()
    rows = []
    for name, each in found.items():
        tensors, own = np.array(each["tensors"]), np.array(first["tensors"])
        apart = np.abs(tensors - own).max(axis=(1, 2)) / np.abs(own).max(axis=(1, 2))
        ratio = each["seconds"] / first["seconds"]  # type: ignore[operator]
        seconds = three_digits(each["seconds"])  # type: ignore[arg-type]
        rows.append([name, seconds, f"{ratio:.1f}", f"{100 * np.median(apart):.2f}", f"{100 * apart.max():.2f}"])
    about = f"Ten crystals of 1 to 12 atoms, {model}; {processor()}, one thread, torch {torch.__version__}."
    header = ["", "CPU s", "beside atomsml", "constants differ by, %, median", "most"]
    return f"{about}\n\n{table(header, rows)}"


if __name__ == "__main__":
    main()
