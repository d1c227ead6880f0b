"""The parts of benchmarks/speed/inference.py: what is measured, and the tables that come of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

import numpy as np

from benchmarks.shared.mace_programs import ATOMSML, COMPILED, CUEQ, EXACT, MACE_TORCH, Job
from benchmarks.shared.peers import busy_core, has_package, peer_python
from benchmarks.shared.race import Measured, Settings, race, result, start
from benchmarks.shared.reporting import table, three_digits
from benchmarks.shared.workloads import ETHANOL, MEDIUM, OTHERS, SILICON, SMALL, WATER, WIDE, Model, Structure

# quoted: us/atom at 64 and at 512 atoms on one thread; where they come from is said in docs/speed.md
SYMMETRIX = {
    (SMALL, "float32"): {64: 1018, 512: 983},
    (SMALL, "float64"): {64: 723, 512: 709},
    (MEDIUM, "float32"): {64: 3262, 512: 3320},
    (MEDIUM, "float64"): {64: 2056, 512: 2070},
    (WIDE, "float32"): {64: 4790, 512: 4900},
}
STEPS = 20  # of molecular dynamics in a block
CRYSTAL = SILICON[1]
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Section:
    """What a part found: text for docs/speed.md, and lines of the README's table: work, atomsml, peer, ratio."""

    text: str
    highlights: list[list[str]]


def fitted(model: Model, structure: Structure) -> Model:
    """The model of the same shape for the elements of a structure."""
    return replace(model, elements=structure.elements)


def ratio(ours: Measured, theirs: Measured) -> str:
    return f"{theirs.median / ours.median:.1f}"


def highlight(work: str, values: Sequence[float], unit: str) -> list[str]:
    ours, theirs = values
    return [work, f"{three_digits(ours)} {unit}", f"mace-torch: {three_digits(theirs)} {unit}", f"{theirs / ours:.1f}"]


def single_calls(settings: Settings) -> Section:
    """Energy, forces and stress of silicon."""
    rows, highlights = [], []
    programs = [ATOMSML, EXACT, MACE_TORCH]
    crystals = settings.fitting(SILICON[1:3])
    for count, model, dtype, structure in product(settings.threads, (SMALL, MEDIUM, WIDE), DTYPES, crystals):
        measured = race([Job(program, model, structure, dtype, count) for program in programs], settings)
        atom = 1e-6 * structure.atoms
        quoted = SYMMETRIX.get((model, dtype), {}).get(structure.atoms) if count == 1 else None
        first = [model.name, dtype, str(structure.atoms), str(count)]
        last = [ratio(measured[0], measured[2]), str(quoted or "")]
        rows.append(first + [x.spread(atom) for x in measured] + last)
        if (count, dtype, structure.atoms) == (1, "float32", 512) and model in (SMALL, WIDE):
            work = f"energy, forces and stress of 512 Si atoms: {model.name}, {dtype}"
            highlights.append(highlight(work, [measured[i].median / atom for i in (0, 2)], "us/atom"))
    header = ["model", "precision", "atoms", "threads", *programs, "mace-torch / atomsml", "symmetrix, quoted"]
    return Section("Microseconds per atom.\n\n" + table(header, rows), highlights)


def compiled_peer(settings: Settings) -> Section:
    """Silicon beside mace-torch through torch.compile, which takes a minute or more before its first answer."""
    rows, programs = [], (ATOMSML, MACE_TORCH, COMPILED)
    for structure in settings.fitting(SILICON[1:3]):
        found = race([Job(program, SMALL, structure) for program in programs], settings, "processor")
        cells = [x.spread(1e-6 * structure.atoms) for x in found]
        rows.append([SMALL.name, str(structure.atoms), *cells, ratio(found[0], found[1]), ratio(found[0], found[2])])
    header = ["model, float32", "atoms", *programs, "eager / atomsml", "compiled / atomsml"]
    return Section("Microseconds of the processor per atom, one thread.\n\n" + table(header, rows), [])


def agreement(settings: Settings) -> Section:
    """Deviations of every program from mace-torch in float64."""
    rows = []
    for model, structure in [*product((SMALL, MEDIUM, WIDE), [CRYSTAL]), *product([MEDIUM], (WATER, ETHANOL))]:
        job = Job(MACE_TORCH, fitted(model, structure), structure, "float64")
        reference = result(job, settings)
        for program, dtype in [*product((EXACT, ATOMSML), reversed(DTYPES)), (MACE_TORCH, "float32")]:
            found = result(replace(job, program=program, dtype=dtype), settings)
            error = {name: np.abs(found[name] - value).max() for name, value in reference.items()}
            relative = {name: f"{error[name] / np.abs(value).max():.0e}" for name, value in reference.items()}
            rows.append([structure.name, str(structure.atoms), model.name, program, dtype])
            rows[-1] += [relative["energy"], relative["forces"], f"{error['forces']:.0e}", relative.get("stress", "")]
        print(f"agreement: {model.name}, {structure.name}", flush=True)
    header = ["structure", "atoms", "model", "program", "precision", "energy", "forces", "forces, eV/A", "stress"]
    return Section(table(header, rows), [])


def sizes(settings: Settings) -> Section:
    """Cost per atom and memory of crystals, from 8 atoms on."""
    rows, highlights, growth = [], [], []
    for model in (SMALL, MEDIUM):
        measured = {x: beside_peer(Job(ATOMSML, model, x), settings) for x in settings.fitting(SILICON)}
        least = measured[SILICON[0]]
        for structure, found in measured.items():
            memory = [x.peak - y.peak for x, y in zip(found, least, strict=False)]
            cells = [f"{x:.0f}" for x in memory] + [""] * (2 - len(found))
            rows.append([model.name, str(structure.atoms), *beside(found, 1e-6 * structure.atoms), *cells])
            if model == SMALL and structure.atoms == 4096 and len(found) == 2:
                highlights.append(highlight(f"memory for 4,096 Si atoms: {model.name}, float32", memory, "MB"))
        largest, middle = max(measured, key=lambda x: x.atoms), SILICON[2]
        if largest.atoms > middle.atoms:
            factor = measured[largest][0].median / measured[middle][0].median * middle.atoms / largest.atoms
            growth.append(f"{model.name}: an atom among {largest.atoms:,} costs {factor:.2f} of one among 512.")
    header = ["model", "atoms", "atomsml, us/atom", "mace-torch, us/atom", "ratio", "atomsml, MB", "mace-torch, MB"]
    return Section(table(header, rows) + "\n" + "\n".join(growth), highlights)


def structures(settings: Settings) -> Section:
    """Energy and forces (and stress, of water) of other things than silicon."""
    rows = []
    for model, structure in product((SMALL, MEDIUM), settings.fitting(OTHERS)):
        found = beside_peer(Job(ATOMSML, fitted(model, structure), structure), settings)
        rows.append([structure.name, str(structure.atoms), model.name, *beside(found, 1e-6 * structure.atoms)])
    header = ["structure", "atoms", "model", "atomsml, us/atom", "mace-torch, us/atom", "ratio"]
    return Section(table(header, rows), [])


def dynamics(settings: Settings) -> Section:
    """Steps of molecular dynamics through ASE, everything included."""
    rows, highlights = [], []
    for count, structure, model in product(settings.threads, (ETHANOL, CRYSTAL), (SMALL, MEDIUM)):
        job = Job(ATOMSML, fitted(model, structure), structure, threads=count, steps=STEPS)
        found = beside_peer(job, settings)
        step = 1e-3 * (STEPS + 1)  # the first step needs the forces before it as well
        rows.append([structure.name, str(structure.atoms), model.name, str(count), *beside(found, step)])
        if count == 1 and structure == ETHANOL and model == SMALL:
            work = f"a step of molecular dynamics through ASE: ethanol, 9 atoms, {model.name}, float32"
            highlights.append(highlight(work, [x.median / step for x in found], "ms"))
    header = ["structure", "atoms", "model", "threads", "atomsml, ms", "mace-torch, ms", "ratio"]
    return Section(table(header, rows), highlights)


def threads(settings: Settings) -> Section:
    """Two threads against one, with and without other work on one of the cores."""
    structure = settings.fitting(SILICON[1:3])[-1]
    programs = (ATOMSML, MACE_TORCH)
    jobs = [Job(program, SMALL, structure, threads=count) for program in programs for count in (1, 2)]
    rows = []
    for load, context in (("idle", nullcontext()), ("one core busy", busy_core())):
        with context:
            found = race(jobs, settings, "sustained")
        for program, one, two in zip(programs, found[::2], found[1::2], strict=True):
            atom = 1e-6 * structure.atoms
            rows.append([load, program, one.spread(atom), two.spread(atom), f"{one.median / two.median:.2f}"])
    title = f"Microseconds per atom: {structure.atoms} atoms of silicon, {SMALL.name}, float32.\n\n"
    return Section(title + table(["machine", "program", "1 thread", "2 threads", "faster by"], rows), [])


def training(settings: Settings) -> Section:
    """The table of benchmarks/speed/training_step.py."""
    from benchmarks.speed import training_step  # brings torch

    cases = list(product(settings.threads, training_step.CASES))
    found = [training_step.measure(case, count, settings.repeats, with_peer=True) for count, case in cases]
    highlights = [
        highlight(
            f"training step: {training_step.COPIES} molecules of {x.atoms} atoms, float32",
            [1e3 * median(y) for y in (x.ours, x.theirs)],
            "ms",
        )
        for x in found
        if x.threads == 1 and x.case == training_step.CASES[0]
    ]
    return Section(training_step.report(found), highlights)


def first_call(settings: Settings) -> Section:
    """How long a new process takes to its first forces, without and with kernels kept by an earlier one."""
    rows = []
    for model, program in product((SMALL, MEDIUM), (ATOMSML, MACE_TORCH)):
        with tempfile.TemporaryDirectory() as cache:
            for process in ("first", "second"):
                began = time.perf_counter()
                with start(Job(program, model, CRYSTAL), settings, XDG_CACHE_HOME=cache) as started:
                    first = started.ask("seconds")
                    whole = time.perf_counter() - began
                    later = min(started.ask("seconds") for _ in range(3))
                rows.append([model.name, program, process, f"{whole:.1f}", f"{first:.2f}", f"{later:.3f}"])
    header = ["model", "program", "process", "from start to first forces, s", "first call, s", "later calls, s"]
    return Section(table(header, rows), [])


def gpu(settings: Settings) -> Section:
    """Energy, forces and stress of silicon on an NVIDIA GPU."""
    peers = [MACE_TORCH, *([CUEQ] if has_package(peer_python(), "cuequivariance_torch") else [])]
    rows = []
    for model, structure in product((SMALL, MEDIUM), (Structure("silicon", 5), Structure("silicon", 11))):
        found = race([Job(x, model, structure, device="cuda") for x in (ATOMSML, *peers)], settings)
        rows.append([model.name, str(structure.atoms), *(x.spread(1e-3) for x in found), ratio(found[0], found[-1])])
    return Section("Milliseconds.\n\n" + table(["model", "atoms", ATOMSML, *peers, "ratio, last column"], rows), [])


def beside_peer(job: Job, settings: Settings) -> list[Measured]:
    """A job of atomsml, and the same of mace-torch if that has the memory for it."""
    programs = [ATOMSML, MACE_TORCH] if job.structure.atoms <= settings.max_peer_atoms else [ATOMSML]
    return race([replace(job, program=program) for program in programs], settings)


def beside(found: list[Measured], unit: float) -> list[str]:
    """Three cells: atomsml, mace-torch, ratio; empty where mace-torch was not measured."""
    return [x.spread(unit) for x in found] + ([ratio(*found)] if len(found) == 2 else ["", ""])


PARTS: dict[str, Callable[[Settings], Section]] = {
    "single calls": single_calls,
    "compiled peer": compiled_peer,
    "agreement": agreement,
    "sizes": sizes,
    "structures": structures,
    "molecular dynamics": dynamics,
    "threads": threads,
    "training step": training,
    "first call": first_call,
    "gpu": gpu,
}
