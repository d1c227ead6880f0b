"""Relax crystals with their cells: the engine beside a loop with ASE and beside TorchSim, with the same weights.

    python -m benchmarks.engine.relax DATA [--count 256] [--docs]

Crystals of 2 to 20 atoms out of Materials Project (DATA/crystals/mp_20_biternary.csv.gz) are strained by 3 % and
shaken by 0.05 A, and relaxed until no force and no row of V stress / atoms exceeds 0.02 eV/A, by

- the engine: `relax_many`, its L-BFGS and its FIRE,
- ASE: LBFGS or FIRE with FrechetCellFilter and the calculator, one crystal after the other,
- TorchSim: its FIRE and L-BFGS with the Frechet cell filter and its batches, which ask the same model.

Each program has a process and one thread, and relaxes all crystals once. Time is that of the processor; evaluations are
those of single crystals. What a program takes beside the model is what is not spent in predictions and neighbour lists.
TorchSim is found in an environment of its own, of Python 3.12 or later, which has atomsml as well:

    python3.12 -m venv .venv-torchsim
    .venv-torchsim/bin/pip install -c constraints.txt torch==2.13.0 -e . torch-sim-atomistic==0.6.2
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.optimize import FIRE, LBFGS

from atomsml import AtomsMLCalculator
from atomsml.simulate.batching.in_flight import Room
from atomsml.simulate.model import Model
from atomsml.simulate.relax import RelaxSettings, relax_many
from benchmarks.shared.peers import ROOT, Program, answer_words
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

MODEL = "universal-small"
FMAX, STEPS = 0.02, 500
BATCH_ATOMS = 2000
SAME = 1e-3  # eV/atom: minima this close are the same
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--torchsim", type=Path, default=ROOT / ".venv-torchsim" / "bin" / "python")
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=PROGRAMS)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/simulation.md")
    parser.add_argument("--answer", choices=PROGRAMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.answer:
        structures = read(arguments.data, ":")
        answer_words({"relax": lambda: measured(PROGRAMS[arguments.answer], structures)})
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crystals.extxyz"
        structures = crystals(arguments.data, arguments.count)
        write(path, structures)
        found = {}
        for name in arguments.programs:
            python = arguments.torchsim if name.startswith("TorchSim") else Path(sys.executable)
            with Program([python, "-m", "benchmarks.engine.relax", path, "--answer", name], threads=1) as program:
                found[name] = program.ask("relax")
                print(name, json.dumps({k: v for k, v in found[name].items() if k != "energies"}), file=sys.stderr)
    atoms = np.array([len(each) for each in structures])
    text = report(found, atoms)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "simulation.md", "relaxing crystals", text)


def crystals(data: Path, count: int) -> list[ase.Atoms]:
    """Out of their minima, the same ones each time."""
    csv.field_size_limit(10**8)
    with gzip.open(data / "crystals" / "mp_20_biternary.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    random, chosen = np.random.default_rng(0), list[ase.Atoms]()
    for i in random.permutation(len(rows)):
        atoms = read(io.StringIO(rows[i]["cif"]), format="cif")
        if 2 <= len(atoms) <= 20:
            strained = atoms.cell.array @ (np.eye(3) + 0.03 * random.normal(size=(3, 3)))
            chosen.append(ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True))
            chosen[-1].set_cell(strained, scale_atoms=True)
            chosen[-1].positions += 0.05 * random.normal(size=atoms.positions.shape)
        if len(chosen) == count:
            return chosen
    raise ValueError(f"there are only {len(chosen)} crystals of 2 to 20 atoms")


def measured(run: Callable[[list[ase.Atoms], Clock], Result], structures: list[ase.Atoms]) -> Result:
    """What a program finds, its time and the part of it that the model takes."""
    run([atoms.copy() for atoms in structures[:4]], Clock())  # machine code is made when it is first needed
    clock, start = Clock(), time.process_time()
    found = run([atoms.copy() for atoms in structures], clock)
    return found | {"seconds": time.process_time() - start, "model": clock.seconds}


class Clock:
    """Adds up the time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def call_and_count(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            found = call(*arguments, **options)
            self.seconds += time.process_time() - start
            return found

        return call_and_count


def engine(optimizer: str) -> Callable[[list[ase.Atoms], Clock], Result]:
    def run(structures: list[ase.Atoms], clock: Clock) -> Result:
        model = Model.of(AtomsMLCalculator(MODEL, device="cpu"))
        assert model.neighbors is not None
        model.predict, model.neighbors.update = clock.timed(model.predict), clock.timed(model.neighbors.update)  # type: ignore[method-assign]
        settings = RelaxSettings(fmax=FMAX, steps=STEPS, cell=True, optimizer=optimizer)
        done = sorted(relax_many(structures, model, settings, Room(atoms=BATCH_ATOMS)), key=lambda each: each.index)
        return {
            "version": version("atomsml"),
            "energies": [each.state.energy for each in done],
            "converged": sum(each.state.converged for each in done),
            "evaluations": sum(each.state.step + 1 for each in done),
        }

    return run


def by_ase(optimizer: type[LBFGS] | type[FIRE]) -> Callable[[list[ase.Atoms], Clock], Result]:
    def run(structures: list[ase.Atoms], clock: Clock) -> Result:
        calculator = AtomsMLCalculator(MODEL, device="cpu")
        calculator.calculate = clock.timed(calculator.calculate)  # type: ignore[method-assign]
        energies, converged, evaluations = list[float](), 0, 0
        for atoms in structures:
            atoms.calc = calculator
            dynamics = optimizer(FrechetCellFilter(atoms), logfile=None)
            converged += bool(dynamics.run(fmax=FMAX, steps=STEPS))
            evaluations += dynamics.nsteps + 1
            energies.append(float(atoms.get_potential_energy()))
        return {
            "version": version("ase"),
            "energies": energies,
            "converged": converged,
            "evaluations": evaluations,
        }

    return run


def torchsim(optimizer: str) -> Callable[[list[ase.Atoms], Clock], Result]:
    return lambda structures, clock: by_torchsim(structures, clock, optimizer)


def by_torchsim(structures: list[ase.Atoms], clock: Clock, optimizer: str) -> Result:
    import torch_sim as ts
    from torch_sim.autobatching import InFlightAutoBatcher

    from atomsml.interfaces.torch_sim import TorchSimModel

    model, asked = TorchSimModel(MODEL, "cpu"), [0]
    predict = clock.timed(model.forward)

    def forward(state: Any) -> dict[str, torch.Tensor]:
        asked[0] += state.n_systems
        return predict(state)

    model.forward = forward  # type: ignore[method-assign]
    final = ts.optimize(
        system=structures,
        model=model,
        optimizer=ts.Optimizer(optimizer),
        init_kwargs={"cell_filter": ts.CellFilter.frechet},
        convergence_fn=ts.generate_force_convergence_fn(force_tol=FMAX, include_cell_forces=True),
        autobatcher=InFlightAutoBatcher(model, memory_scales_with="n_atoms", max_memory_scaler=BATCH_ATOMS),
        max_steps=10_000,
    )
    cells = final.cell_forces.norm(dim=2).amax(dim=1)
    forces = torch.zeros(len(structures), dtype=torch.float64)
    forces = forces.scatter_reduce(0, final.system_idx, final.forces.norm(dim=1), "amax")
    return {
        "version": version("torch-sim-atomistic"),
        "energies": final.energy.tolist(),
        "converged": int(((cells < FMAX) & (forces < FMAX)).sum()),
        "evaluations": asked[0],
    }


PROGRAMS: dict[str, Callable[[list[ase.Atoms], Clock], Result]] = {
    "engine, L-BFGS": engine("lbfgs"),
    "engine, FIRE": engine("fire"),
    "TorchSim, L-BFGS": torchsim("lbfgs"),
    "TorchSim, FIRE": torchsim("fire"),
    "ASE, LBFGS": by_ase(LBFGS),
    "ASE, FIRE": by_ase(FIRE),
}


def report(found: dict[str, Result], atoms: np.ndarray) -> str:
    first = next(iter(found))
    rows = []
    for name, each in found.items():
        apart = (np.array(each["energies"]) - np.array(found[first]["energies"])) / atoms
        rows.append(
            [
                f"{name} ({each['version']})",
                three_digits(each["seconds"]),
                f"{each['seconds'] / found[first]['seconds']:.2f}",
                f"{1 - each['model'] / each['seconds']:.0%}",
                f"{each['converged']}",
                f"{each['evaluations']}",
                f"{np.count_nonzero(np.abs(apart) < SAME)}",
                f"{np.count_nonzero(apart >= SAME)}",
                f"{np.count_nonzero(apart <= -SAME)}",
            ]
        )
    header = ["", "CPU s", f"beside {first}", "beside the model", "converged", "evaluations"]
    header += ["same minimum", "a higher one", "a lower one"]
    about = (
        f"{len(atoms)} crystals, {atoms.sum()} atoms, {MODEL}; {processor()}, one thread, torch {torch.__version__}."
    )
    return f"{about}\n\n{table(header, rows)}"


if __name__ == "__main__":
    main()
