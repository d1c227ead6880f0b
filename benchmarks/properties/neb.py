"""Elastic bands: ours beside ASE's, with the same model, the same end points and the same first path.

    python -m benchmarks.properties.neb [--docs]

Bands of seven images climb until no force is larger than 0.02 eV/A: the inversion of ammonia, the torsion of butane and
the hop of a vacancy in 53 atoms of tungsten, one band each; and the hops of vacancies in 16 alloys of 15 atoms, ours in
one batch, ASE's one after the other. End points are relaxed before. ASE's bands (improved tangent, climbing) are moved
by its FIRE and, of the single ones, by its BFGS; its force includes that of the springs. Time is that of the processor,
with one thread; evaluations are those of single images. The barriers of `ts` are those of transition states that begin
at the tops of our bands. A minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from ase.build import bulk, molecule
from ase.mep import NEB
from ase.optimize import BFGS, FIRE

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.paths.alignment import prepared
from atomsml.properties.paths.neb import NebSettings, Path, elastic_bands
from atomsml.properties.paths.ts import Guess, TransitionState, transition_states
from atomsml.properties.task import Start, minima
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

FMAX, IMAGES = 0.02, 7
METALS = ("Nb", "Mo", "Ta", "W")
Pair = tuple[ase.Atoms, ase.Atoms]


@dataclass(frozen=True)
class Measured:
    """Of several bands together."""

    barriers: list[float]  # eV
    evaluations: int  # of images
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/properties/neb.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, textbook = [], []
    for name, model, pairs in cases():
        calculator = AtomsMLCalculator(model, device="cpu")
        engine = Engine.of(calculator)
        pairs = [relaxed(pair, engine) for pair in pairs]
        ours(pairs[:1], engine)  # machine code is made when it is first needed
        mine, paths = ours(pairs, engine)
        optimizers = (FIRE,) if len(pairs) > 1 else (FIRE, BFGS)
        theirs = {each.__name__: by_ase(pairs, calculator, each) for each in optimizers}
        for program, found in {"atomsml": mine, **{f"ASE, {key}": value for key, value in theirs.items()}}.items():
            off = max(abs(a - b) for a, b in zip(found.barriers, mine.barriers, strict=True))
            times = f"{found.seconds / mine.seconds:.1f}"
            rows.append(
                [name, program, str(found.evaluations), three_digits(found.seconds), times, f"{1000 * off:.1f}"]
            )
        if len(pairs) == 1:
            state = transition_state(paths[0], engine)
            barriers = [mine.barriers[0], *(each.barriers[0] for each in theirs.values())]
            minima_of = "yes" if state.is_expected else "no"
            above = state.energy - paths[0].energies[0]
            textbook.append(
                [
                    name,
                    *(f"{each:.4f}" for each in barriers),
                    f"{above:.4f}",
                    f"{-state.frequencies[0]:.0f}i",
                    minima_of,
                ]
            )
    about = f"{processor()}, one thread, torch {torch.__version__}, ase {ase.__version__}."
    heading = ["band", "program", "evaluations", "CPU s", "beside atomsml", "barriers apart, meV"]
    first = table(
        ["barrier, eV", "neb", "ASE, FIRE", "ASE, BFGS", "ts", "imaginary, cm^-1", "its minima are those of the band"],
        textbook,
    )
    second = f"{about}\n\n{table(heading, rows)}"
    print(f"{first}\n\n{second}")
    if arguments.docs:
        replace_section(DOCS / "properties" / "neb.md", "textbook barriers", first)
        replace_section(DOCS / "properties" / "neb.md", "what a band costs", second)


def cases() -> list[tuple[str, str, list[Pair]]]:
    """Names, models, and end points."""
    up = molecule("NH3")
    down = up.copy()
    down.positions[:, 2] *= -1
    anti = molecule("trans-butane")
    gauche = anti.copy()
    end = [
        a.index for a in anti if min(np.linalg.norm(anti.positions[[2, 3]] - a.position, axis=1)) < 1.2 and a.index != 2
    ]
    gauche.set_dihedral(0, 1, 2, 3, 65, indices=end)
    alloys = [hop([METALS[i % 4], METALS[i // 4]], 2) for i in range(16)]
    return [
        ("ammonia inverts", "organic-xtb", [(up, down)]),
        ("butane turns", "organic-xtb", [(anti, gauche)]),
        ("vacancy in tungsten", "refractory-pbe", [hop(["W"], 3)]),
        ("vacancies in 16 alloys", "refractory-pbe", alloys),
    ]


def hop(metals: Sequence[str], size: int) -> Pair:
    """An atom moves into the vacancy beside it."""
    crystal = bulk("W", cubic=True, a=3.2) * size
    crystal.symbols[:] = [metals[i % len(metals)] for i in range(len(crystal))]
    del crystal[0]
    last = crystal.copy()
    last.positions[0] = 0
    return crystal, last


def relaxed(pair: Pair, engine: Engine) -> Pair:
    found = dict(minima(pair, engine, Start()))
    first, last = prepared([found[0], found[1]])
    return first, last


def ours(pairs: Sequence[Pair], engine: Engine) -> tuple[Measured, list[Path]]:
    start = time.process_time()
    settings = NebSettings(IMAGES, FMAX)
    found = dict(elastic_bands(pairs, engine, settings, Start(fmax=FMAX, relax=False)))
    seconds = time.process_time() - start
    paths = [found[i] for i in range(len(pairs))]
    assert all(isinstance(path, Path) for path in paths), paths
    evaluations = sum(IMAGES * (path.steps + 1) + 2 for path in paths)
    return Measured([path.barrier for path in paths], evaluations, seconds), paths


def by_ase(pairs: Sequence[Pair], calculator: AtomsMLCalculator, optimizer: Callable[..., FIRE | BFGS]) -> Measured:
    start, barriers, evaluations = time.process_time(), list[float](), 0
    for first, last in pairs:
        images = [first.copy() for _ in range(IMAGES + 1)] + [last.copy()]
        band = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
        band.interpolate("idpp")
        for image in images:
            image.calc = calculator
        moving = optimizer(band, logfile=None)
        assert moving.run(fmax=FMAX, steps=1000)
        evaluations += IMAGES * (moving.nsteps + 1) + 2
        energies = [image.get_potential_energy() for image in images]
        barriers.append(float(max(energies) - energies[0]))
    return Measured(barriers, evaluations, time.process_time() - start)


def transition_state(path: Path, engine: Engine) -> TransitionState:
    [(_, found)] = transition_states([Guess.of(path.images, path.energies)], engine)
    assert isinstance(found, TransitionState), found
    return found


if __name__ == "__main__":
    main()
