"""Jobs of mace_programs.py by several programs, each in a process of its own, which take turns."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.mace_programs import ATOMSML, EXACT, Job
from benchmarks.shared.peers import Program, peer_python, take_turns
from benchmarks.shared.reporting import spread, three_digits
from benchmarks.shared.workloads import Structure

SLOW, SLOWEST = 512, 4096  # atoms: where fewer calls have to do, since each takes so long


@dataclass(frozen=True)
class Settings:
    models: Path  # folder with the models of workloads.py
    repeats: int
    threads: Sequence[int]
    max_atoms: int
    max_peer_atoms: int  # mace-torch needs much memory

    def fitting(self, structures: Sequence[Structure]) -> list[Structure]:
        return [structure for structure in structures if structure.atoms <= self.max_atoms]


@dataclass(frozen=True)
class Measured:
    """Of one program."""

    seconds: list[float]
    peak: float  # MB of memory, at the most, of the whole process

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def spread(self, unit: float) -> str:
        """Median and extremes in a unit of so many seconds."""
        return spread([x / unit for x in self.seconds])


def start(job: Job, settings: Settings, **environment: str) -> Program:
    python = Path(sys.executable) if job.program in (ATOMSML, EXACT) else peer_python()
    arguments = ["--models", str(settings.models), "--job", json.dumps(asdict(job))]
    return Program([python, "-m", "benchmarks.shared.mace_programs", *arguments], job.threads, **environment)


def race(jobs: Sequence[Job], settings: Settings, turn: str = "seconds") -> list[Measured]:
    """Measure jobs of the same size in turn: one call each.

    Or, with `turn` "sustained", half a second of calls; with "processor" the same in time of the processor.
    """
    atoms = jobs[0].structure.atoms
    warm_up = 1 if jobs[0].steps else 2 if atoms >= SLOW else 4
    repeats = min(settings.repeats, 3) if atoms > SLOWEST else settings.repeats
    with ExitStack() as stack:
        programs = [stack.enter_context(start(job, settings)) for job in jobs]
        calls = [partial(program.ask, turn) for program in programs]
        times = take_turns(calls, repeats, warm_up)
        measured = [Measured(x, program.ask("peak")) for x, program in zip(times, programs, strict=True)]
    job = jobs[0]
    found = ", ".join(f"{j.program} {three_digits(1e3 * m.median)} ms" for j, m in zip(jobs, measured, strict=True))
    print(f"{job.model.name}, {job.dtype}, {job.structure.atoms} {job.structure.name}: {found}", flush=True)
    return measured


def result(job: Job, settings: Settings) -> dict[str, np.ndarray[Any, Any]]:
    """Energy, forces and stress."""
    with start(job, settings) as program:
        return {name: np.array(value) for name, value in program.ask("result").items()}
