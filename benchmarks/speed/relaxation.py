"""Relax a crystal with its cell: potentials of atomsml beside mace-torch, along the same path.

    python -m benchmarks.speed.relaxation FOLDER [--cells 3] [--docs]

FOLDER is that of benchmarks/accuracy/architectures.py: its Facet (ours) and MACE, trained on NbMoTaW, are taken. An
alloy (bcc, elements in random order, stretched by 3 % and 1 % along two axes, displaced by 0.1 A) is relaxed by ASE's
FIRE and FrechetCellFilter until no force exceeds 0.05 eV/A, or for 100 steps. What Facet answers at each step is
written down; then every program relaxes the alloy again and again: it is asked for energy, forces and stress at each
step, and the optimiser gets what Facet answered. So structures and steps are the same for all. Everything counts:
neighbour lists, calculator, filter and optimiser. Each program has a process and one thread, and they take turns, a
relaxation each. Time is that of the processor.

All others have random weights, on which time does not depend: Facet as published, of the sizes of our Facet and of
facet-s, which the paper compares with MACE; mace-torch, of the sizes of our trained MACE and of MACE-MP-0 small
(128x0e, lmax 3, 6 A; Batatia et al., arXiv:2401.00096), of which there is also our MACE. `make peers` installs
mace-torch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from benchmarks.accuracy.architecture_costs import alloy
from benchmarks.shared.peers import Program, answer_words, peer_python, take_turns, versions
from benchmarks.shared.reporting import DOCS, processor, replace_section, spread, table

ELEMENTS = [41, 42, 73, 74]
CELLS = [3, 4]  # along each axis: 54 and 128 atoms
FMAX, STEPS = 0.05, 100  # eV/A; at most
WARM_UP = 4  # steps: in the third, TorchScript still compiles
REPEATS = 3
PROPERTIES = ["energy", "forces", "stress"]
SECTION = "relaxation"
OURS = {"Facet": "facet-small", "MACE": "mace-small"}  # folders of the trained models; all follow the first
PUBLISHED = {"channels": 128, "hidden_lmax": 0, "cutoff": 6.0, "lmax": 3, "radial_mlp": [64, 64, 64]}
SIZES = tuple(PUBLISHED)  # fields of the config of our MACE that size its peer
MLP = {"pointwise": "mlp", "grid": [18, 17]}
RANDOM: dict[str, dict[str, Any]] = {  # architecture, size and other options, by the name in the table
    "Facet as published, channels of this Facet": {"random": "facet", "size": "small", "options": MLP},
    "Facet as published, facet-s": {"random": "facet", "size": "paper", "options": {}},
    "MACE, sizes of MACE-MP-0 small": {"random": "mace", "size": "small", "options": PUBLISHED},
}


class OnPath(Calculator):
    """Asks a calculator, and answers with what is in a list for this step; beyond its end with what it was told.

    So an empty list records a path, and a full one follows it.
    """

    implemented_properties = PROPERTIES

    def __init__(self, asked: Calculator, path: list[dict[str, Any]]) -> None:
        super().__init__()
        self.asked, self.path, self.step = asked, path, 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.asked.calculate(self.atoms, PROPERTIES, all_changes)
        if self.step == len(self.path):
            self.path.append({name: np.asarray(self.asked.results[name]).tolist() for name in PROPERTIES})
        self.results = {name: np.array(value) for name, value in self.path[self.step].items()}
        self.step += 1


def relax(cells: int, calculator: Calculator, path: list[dict[str, Any]], steps: int = STEPS) -> None:
    """From the alloy to its minimum on the path, or so many steps."""
    atoms = alloy((cells, cells, cells), 0.1)
    atoms.set_cell(atoms.cell.array * [1.03, 1.01, 1.0], scale_atoms=True)
    atoms.calc = OnPath(calculator, path)
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=FMAX, steps=steps)


def our_calculator(model: str) -> Calculator:
    from atomsml import AtomsMLCalculator

    return AtomsMLCalculator(model, device="cpu")


def random_calculator(architecture: str, size: str, options: dict[str, Any]) -> Calculator:
    import torch

    from atomsml import AtomsMLCalculator
    from atomsml.config import config_from_json
    from atomsml.potentials import POTENTIALS

    torch.manual_seed(0)
    made = POTENTIALS[architecture]
    values = {"elements": ELEMENTS, "avg_num_neighbors": 60.0, **made.sizes[size], **options}
    config = config_from_json(made.Config, json.loads(json.dumps(values)))
    return AtomsMLCalculator(made(config), device="cpu")


def mace_torch_calculator(sizes: dict[str, Any]) -> Calculator:
    import torch
    from mace.calculators import MACECalculator

    from benchmarks.shared import peer_mace

    torch.manual_seed(0)
    network = peer_mace.build(ELEMENTS, avg_num_neighbors=60.0, **sizes).float()
    return MACECalculator(models=[network], device="cpu", default_dtype="float32")


def calculator_of(job: dict[str, Any]) -> Calculator:
    if "model" in job:
        return our_calculator(job["model"])
    if "random" in job:
        return random_calculator(job["random"], job["size"], job["options"])
    return mace_torch_calculator(job["sizes"])


def be_program(job: dict[str, Any]) -> None:
    """Relax whenever asked to; the path is in a file, unless this program is to find and write it."""
    import torch

    torch.set_num_threads(1)
    calculator = calculator_of(job)
    file = Path(job["path"])

    def record() -> int:
        path: list[dict[str, Any]] = []
        relax(job["cells"], calculator, path)
        file.write_text(json.dumps(path), encoding="utf-8")
        return len(path)

    def follow(steps: int) -> float:
        path = json.loads(file.read_text(encoding="utf-8"))
        start = time.process_time()
        relax(job["cells"], calculator, path, steps)
        return time.process_time() - start

    answer_words({"record": record, "warm up": lambda: follow(WARM_UP), "seconds": lambda: follow(STEPS)})


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    """What each program is told of its model, by its name in the table."""
    models = {name: folder / "nbmotaw" / run / "model.safetensors" for name, run in OURS.items()}
    if missing := [str(path) for path in models.values() if not path.exists()]:
        raise FileNotFoundError(f"no {', '.join(missing)}; train them with benchmarks/accuracy/architectures.py")
    from atomsml.modelfile import read_metadata

    config = read_metadata(models["MACE"])["config"]
    return {
        **{name: {"model": str(path)} for name, path in models.items()},
        **RANDOM,
        "mace-torch, sizes of this MACE": {"sizes": {name: config[name] for name in SIZES}},
        "mace-torch, sizes of MACE-MP-0 small": {"sizes": PUBLISHED},
    }


def measure(cells: int, folder: Path) -> tuple[int, dict[str, list[float]]]:
    """Steps of the path, and seconds of each relaxation by each program."""
    path = str(folder / f"relaxation-{cells}.json")
    with ExitStack() as stack:
        programs = []
        for job in jobs(folder).values():
            python = peer_python() if "sizes" in job else Path(sys.executable)
            described = json.dumps({**job, "cells": cells, "path": path})
            command = [python, "-m", "benchmarks.speed.relaxation", "--job", described]
            programs.append(stack.enter_context(Program(command, threads=1)))
        steps = programs[0].ask("record")
        for program in programs:
            program.ask("warm up")
        times = take_turns([partial(program.ask, "seconds") for program in programs], REPEATS, warm_up=0)
    return steps, dict(zip(jobs(folder), times, strict=True))


def report(found: dict[int, tuple[int, dict[str, list[float]]]]) -> str:
    rows = []
    for cells, (steps, times) in found.items():
        facet = statistics.median(times["Facet"])
        for name, values in times.items():
            each = statistics.median(values)
            rows.append(
                [
                    name,
                    str(2 * cells**3),
                    str(steps),
                    f"{1e3 * each / steps:.1f}",
                    spread(values),
                    f"{each / facet:.2f}",
                ]
            )
    header = ["", "atoms", "calculations", "ms each", "seconds in all", "times Facet's"]
    machine = f"{processor()}, one thread; {versions(Path(sys.executable), ('atomsml', 'torch'))}"
    peer = versions(peer_python(), ("mace-torch", "e3nn", "torch"))
    return f"{machine}; beside {peer}. Medians, the smallest and the largest in brackets.\n\n{table(header, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("architectures"))
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS, help="along each axis: 2, 16, 54, 128 atoms ...")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/architectures.md as well")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        be_program(arguments.job)
        return
    text = report({cells: measure(cells, arguments.folder) for cells in arguments.cells})
    (arguments.folder / "relaxation.md").write_text(text, encoding="utf-8")
    print(text)
    if arguments.docs:
        replace_section(DOCS / "architectures.md", SECTION, text)


if __name__ == "__main__":
    main()
