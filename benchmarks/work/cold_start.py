"""CPU time of whole commands, from the start of their process to its end: imports, loading, compiling, computing.

    python -m benchmarks.work.cold_start [--turns 5] [--docs]

atomsml is measured twice: with an empty cache, so that kernels are compiled, and with those of an earlier process.
Where `make peers` has installed mace-torch, its command for energies and forces takes its turns as well, with a model
of MACE-MP-0's small shape in float64, and `atomsml energy` with the same model, converted. One thread; user and system
time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import ase.io
from ase.build import molecule
from ase.calculators.emt import EMT

from benchmarks.shared.peers import PEERS, ROOT, versions
from benchmarks.shared.reporting import DOCS, README, SPEED, processor, replace_row, replace_section, spread, table

ATOMSML = (sys.executable, "-m", "atomsml.cli")
FIRST_STEP = """
import sys
from pathlib import Path
from atomsml.training.config import DataConfig, SourceConfig, TrainingConfig
from atomsml.training.run import Run
data = DataConfig(train=(SourceConfig(sys.argv[1]),), valid=0.05)
next(Run(TrainingConfig(data=data, max_steps=100), Path(sys.argv[2])).steps())
"""
MODEL = """
import sys
from dataclasses import replace
from pathlib import Path
from benchmarks.shared.peer_mace import write
from benchmarks.shared.workloads import ETHANOL, SMALL
write(replace(SMALL, elements=ETHANOL.elements), ETHANOL, Path(sys.argv[1]))
"""

OURS, THEIRS = "MACE-MP-0 small, ethanol: atomsml energy", "the same: mace_eval_configs"
Times = dict[str, tuple[list[float], list[float]]]  # of each command, with an empty cache and with kernels kept


@dataclass(frozen=True)
class Work:
    """A command line; {new} in it stands for a name that no file has yet."""

    name: str
    command: Sequence[str | Path]
    uses_kernels: bool = True

    def seconds(self, folder: Path, cache: Path) -> float:
        """CPU time of a process, its own and that of the system on its behalf."""
        new = tempfile.mkdtemp(dir=folder)
        command = [str(word).replace("{new}", f"{new}/out") for word in self.command]
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise OSError(f"{self.name} ended with status {process.returncode}: {errors}")
        return used.ru_utime + used.ru_stime


def _environment(cache: Path) -> Mapping[str, str]:
    # mace-torch unpickles constants of e3nn
    own = {"OMP_NUM_THREADS": "1", "ATOMSML_CACHE": str(cache), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    return {**os.environ, **own}


def works(folder: Path) -> list[Work]:
    """Commands, and the files that they read."""
    images = []
    for i in range(100):
        atoms = molecule(("CH3CH2OH", "CH4", "C6H6", "H2O")[i % 4])
        atoms.rattle(0.05, seed=i)
        atoms.calc = EMT()
        atoms.get_forces()
        images.append(atoms)
    ase.io.write(folder / "labelled.extxyz", images)
    found = [
        Work("import torch", (sys.executable, "-c", "import torch"), False),
        Work("import atomsml", (sys.executable, "-c", "import atomsml"), False),
        Work("atomsml --help", (*ATOMSML, "--help"), False),
        Work("atomsml energy CCO", (*ATOMSML, "energy", "CCO")),
        Work("atomsml relax CCO", (*ATOMSML, "relax", "CCO", "-o", "{new}.extxyz")),
        Work(
            "atomsml train, to its first step", (sys.executable, "-c", FIRST_STEP, folder / "labelled.extxyz", "{new}")
        ),
    ]
    return found + (beside_mace_torch(folder) if PEERS.exists() else [])


def beside_mace_torch(folder: Path) -> list[Work]:
    """One call for ethanol by each program, of the same model."""
    model, converted, ethanol = folder / "small.model", folder / "small.safetensors", folder / "ethanol.extxyz"
    environment = _environment(folder)
    subprocess.run([PEERS, "-c", MODEL, model], cwd=ROOT, check=True, env=environment, capture_output=True)
    subprocess.run([*ATOMSML, "convert", model, "-o", converted], cwd=ROOT, check=True, capture_output=True)
    ase.io.write(ethanol, molecule("CH3CH2OH"))
    asked = ("--configs", ethanol, "--model", model, "--output", "{new}.extxyz", "--default_dtype", "float64")
    return [
        Work(
            OURS,
            (*ATOMSML, "energy", ethanol, "-m", converted, "--precision", "float64"),
        ),
        Work(THEIRS, (PEERS.parent / "mace_eval_configs", *asked), False),
    ]


def measure(turns: int, folder: Path) -> Times:
    all_works = works(folder)
    kept = folder / "kept"
    for work in all_works:
        if work.uses_kernels:
            work.seconds(folder, kept)
    times: Times = {work.name: ([], []) for work in all_works}
    for _ in range(turns):
        for work in all_works:
            empty, filled = times[work.name]
            if work.uses_kernels:
                empty.append(work.seconds(folder, Path(tempfile.mkdtemp(dir=folder))))
            filled.append(work.seconds(folder, kept))
    return times


def report(times: Times) -> str:
    rows = [[name, spread(empty) if empty else "", spread(filled)] for name, (empty, filled) in times.items()]
    return table(["CPU seconds of a process", "empty cache", "kernels of an earlier process"], rows)


def readme_row(times: Times) -> list[str]:
    """A later process, as all but the first after an installation are."""
    ours, theirs = (median(times[name][1]) for name in (OURS, THEIRS))
    cells = [f"{ours:.2f} s", f"mace-torch: {theirs:.2f} s", f"{theirs / ours:.1f}"]
    return ["cold start: `atomsml energy` of ethanol, a process of its own, small, r 5", *cells, "`work.cold_start`"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/speed.md")
    arguments = parser.parse_args()
    ours = versions(Path(sys.executable), ("atomsml", "torch", "llvmlite"))
    theirs = f"; beside {versions(PEERS, ('mace-torch', 'torch'))}" if PEERS.exists() else ""
    with tempfile.TemporaryDirectory() as folder:
        times = measure(arguments.turns, Path(folder))
    text = f"{processor()}; {ours}{theirs}.\n\n{report(times)}"
    print(text)
    if arguments.docs:
        if THEIRS in times:
            replace_row(README, SPEED, readme_row(times))
        replace_section(DOCS / "speed.md", "cold start", text)


if __name__ == "__main__":
    main()
