"""Steps of molecular dynamics: what the engine costs beside its model and beside ASE, and what a batch brings.

    OMP_NUM_THREADS=1 python -m benchmarks.engine.md [--docs]

CPU time of one thread; contenders take turns. Ten minutes of one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

import ase
import numpy as np
import torch
from ase import units
from ase.build import bulk, molecule
from ase.md.langevin import Langevin as ASELangevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from atomsml import AtomsMLCalculator
from atomsml.potential import Prediction
from atomsml.simulate.dynamics.integrator import Integrator
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

TURNS, COPIES, TEMPERATURE = 7, 64, 300.0
FRICTION_TIME = 100.0  # fs


@dataclass(frozen=True)
class Case:
    name: str
    atoms: ase.Atoms
    model: str
    timestep: float  # fs
    steps: int  # of a turn


CASES = (
    Case("ethanol", molecule("CH3CH2OH"), "organic-xtb", 0.5, 200),
    Case("512 tungsten", bulk("W", cubic=True) * (8, 8, 4), "refractory-pbe", 2.0, 20),
)


class Timed:
    """A predictor that sums up its CPU time."""

    def __init__(self, predict: Callable[..., Prediction]) -> None:
        self.predict, self.spent = predict, 0.0

    def __call__(self, *given: Any, **options: Any) -> Prediction:
        start = time.process_time()
        found = self.predict(*given, **options)
        self.spent += time.process_time() - start
        return found


def warm(atoms: ase.Atoms, seed: int) -> ase.Atoms:
    copy = atoms.copy()
    thermalize_momenta(copy, TEMPERATURE, rng=np.random.default_rng(seed))
    return copy


class Engine:
    """Steps of a state of some copies."""

    def __init__(self, case: Case, integrator: Integrator[Any], copies: int = 1) -> None:
        self.model = Model.of(AtomsMLCalculator(case.model, device="cpu"))
        self.timed = self.model.predict = Timed(self.model.predict)
        self.state = State.of([warm(case.atoms, seed) for seed in range(copies)])
        self.model(self.state)
        self.integrator, self.memory = integrator, integrator.start(self.state)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.integrator.step(self.state, self.memory, self.model)


class Peer:
    """Steps of ASE."""

    def __init__(self, case: Case, thermostat: bool) -> None:
        atoms = warm(case.atoms, 0)
        atoms.calc = AtomsMLCalculator(case.model, device="cpu")
        self.timed = atoms.calc.predict = Timed(atoms.calc.predict)
        dt = case.timestep * units.fs
        bath = {"temperature_K": TEMPERATURE, "friction": 1 / (FRICTION_TIME * units.fs), "fixcm": False}
        self.dynamics = (
            ASELangevin(atoms, dt, rng=np.random.default_rng(0), **bath) if thermostat else VelocityVerlet(atoms, dt)
        )

    def run(self, steps: int) -> None:
        self.dynamics.run(steps)


def race(contenders: list[Engine | Peer], steps: int) -> list[tuple[float, float]]:
    """Of each the median CPU time of a step, and of what is not the model in it; ms."""
    found = [list[tuple[float, float]]() for _ in contenders]
    for turn in range(TURNS + 1):
        for contender, times in zip(contenders, found, strict=True):
            contender.timed.spent, start = 0.0, time.process_time()
            contender.run(steps)
            spent = time.process_time() - start
            if turn:  # the first makes everything ready
                times.append((1e3 * spent / steps, 1e3 * (spent - contender.timed.spent) / steps))
    return [(median(x for x, _ in times), median(x for _, x in times)) for times in found]


def own_cost(case: Case) -> list[list[str]]:
    """Rows of the first table: an integrator each."""
    rows = []
    for name, thermostat in (("NVE", False), ("Langevin", True)):
        own = Langevin(case.timestep, TEMPERATURE, FRICTION_TIME) if thermostat else NVE(case.timestep)
        (step, engine), (ase_step, ase_own) = race([Engine(case, own), Peer(case, thermostat)], case.steps)
        share = f"{100 * engine / (step - engine):.1f} %"
        rows.append([f"{case.name}, {name}", *map(three_digits, (step, engine)), share, three_digits(ase_step),
                     three_digits(ase_own)])  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def batch_gain(case: Case) -> list[str]:
    """A row of the second table."""
    single, batch = Engine(case, NVE(case.timestep)), Engine(case, NVE(case.timestep), COPIES)
    (alone, _), = race([single], case.steps)  # fmt: skip
    (together, _), = race([batch], max(4, case.steps // 10))  # fmt: skip
    return [case.name, three_digits(COPIES * alone), three_digits(together), f"{COPIES * alone / together:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/speed.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    header = ["", "step, ms", "beside the model, ms", "of the model's time", "ASE's step, ms", "beside the model, ms"]
    costs = table(header, [row for case in CASES for row in own_cost(case)])
    gain = table(["a step of NVE", f"{COPIES} runs, ms", "one batch, ms", "ratio"], [batch_gain(CASES[0])])
    text = f"{processor()}, one thread, torch {version('torch')}, mixed precision.\n\n{costs}\n{gain}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "speed.md", "engine", text)


if __name__ == "__main__":
    main()
