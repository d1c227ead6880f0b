"""Many structures relaxed by two processes that share them: nothing is missing, nothing is there twice.

    python -m benchmarks.engine.shards FOLDER [--structures 5000] [--kills 2] [--docs]

Small molecules, distorted by seeds, are in one file and in files of their own. `atomsml relax --shard 0/2` and 1/2 run
at the same time, one thread each, into one folder; each is killed by SIGKILL several times and goes on by --resume.
Then every input has one structure in the folder and one row in the two tables, with the energy that the structure has.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
from ase.build import molecule

from benchmarks.shared.reporting import DOCS, processor, replace_section, table

MODEL = "organic-xtb"
SPECIES = ("H2O", "CH4", "NH3", "HCN", "CO2", "C2H2", "CH3OH", "H2CO")
SECTION = "shards of a relaxation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="is made; must not be there")
    parser.add_argument("--structures", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=2, help="of each process")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/simulation.md as well")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    make_inputs(arguments.folder, arguments.structures)
    start = time.perf_counter()
    seconds = run_shards(arguments.folder, arguments.kills)
    wall = time.perf_counter() - start
    counts = check(arguments.folder, arguments.structures)
    header = [
        "structures",
        "processes",
        "kills of each",
        "missing",
        "twice",
        "time of the processor",
        "time on the clock",
    ]
    row = [f"{arguments.structures:,}", "2", str(arguments.kills), *counts, f"{seconds:.0f} s", f"{wall:.0f} s"]
    text = f"{table(header, [row])}\n\n{processor()}, {os.cpu_count()} cores, one thread each"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "simulation.md", SECTION, text)


def make_inputs(folder: Path, count: int) -> None:
    """Half of the structures in one file, and the others in a file each."""
    frames = []
    for i in range(count):
        atoms = molecule(SPECIES[i % len(SPECIES)])
        atoms.rattle(0.05, seed=i)
        frames.append(atoms)
    (folder / "inputs").mkdir()
    ase.io.write(folder / "inputs" / "half.extxyz", frames[: count // 2])
    for i, atoms in enumerate(frames[count // 2 :]):
        ase.io.write(folder / "inputs" / f"{i:05d}.extxyz", atoms)


def run_shards(folder: Path, kills: int) -> float:
    """Both processes at the same time, killed and resumed; returns what they took of the processor, s."""
    rng, before = random.Random(0), os.times()
    left = dict.fromkeys(("0/2", "1/2"), kills)
    running = {shard: begin(folder, shard) for shard in left}
    while running:
        time.sleep(rng.uniform(8.0, 15.0))
        for shard, process in list(running.items()):
            if process.poll() is not None:
                if process.returncode != 0:
                    raise SystemExit(f"shard {shard} ended with status {process.returncode}")
                del running[shard]
            elif left[shard]:
                process.send_signal(signal.SIGKILL)
                process.wait()
                left[shard] -= 1
                running[shard] = begin(folder, shard)
    if any(left.values()):
        raise SystemExit(f"the processes ended before they were killed: {left}; give more --structures")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def begin(folder: Path, shard: str) -> subprocess.Popen[bytes]:
    words = ["relax", "inputs", "-m", MODEL, "--fmax", "0.02", "-o", "out/", "--shard", shard, "--resume"]
    with (folder / f"log-{shard[0]}.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "atomsml.cli", *words],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def check(folder: Path, count: int) -> tuple[str, str]:
    """How many inputs have no structure, and how many have several; each must be what its row says."""
    rows = []
    for table_file in sorted((folder / "out").glob("relax-*-of-2.csv")):
        with table_file.open(newline="") as file:
            rows += list(csv.DictReader(file))
    outputs = [row["output"] for row in rows]
    sources = [(row["file"], row["index"]) for row in rows]
    there = {f"out/{path.name}" for path in (folder / "out").glob("*.extxyz")}
    if there != set(outputs):
        raise SystemExit(f"files and rows differ: {sorted(there ^ set(outputs))[:5]}")
    for row in rows:
        energy = ase.io.read(folder / row["output"]).get_potential_energy()
        if not np.isclose(energy, float(row["energy_eV"]), rtol=0, atol=1e-6):
            raise SystemExit(f"{row['output']} has the energy {energy}, its row {row['energy_eV']}")
    return str(count - len(set(sources))), str(len(sources) - len(set(sources)))


if __name__ == "__main__":
    main()
