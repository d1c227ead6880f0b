"""Energies and forces of a file of many molecules, from the command to the file of results.

    python -m benchmarks.work.energy_file DATA -o FOLDER [--molecules 5000] [--only atomsml ...] [--docs]

DATA has molecules_static/smiles/qm9_smiles.csv.gz. The first of its molecules that can be embedded are written to one
file, which is given to

| program | command |
|---|---|
| atomsml | atomsml energy FILE --precision float32 |
| mace-torch, ASE | a loop over the structures with MACECalculator |
| mace-torch, batches | mace_eval_configs, batches of 64 |

with the same model (MACE, 128x0e, lmax 3, 5 A, eight elements), the same weights, float32, one thread. Everything
counts: starting Python, imports, loading the model, reading and writing. Time is that of the processor. FOLDER keeps
what a program took, so that they may be measured one at a time, and on files of other sizes; all that it has make the
table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np

from benchmarks.shared.model_files import UNPICKLED, both_files, in_float32
from benchmarks.shared.peers import TUNING, peer_python
from benchmarks.shared.reporting import DOCS, README, SPEED, machine, replace_row, replace_section, table, three_digits
from benchmarks.shared.workloads import ORGANIC
from benchmarks.work.streams import molecules

SECTION = "energy of a file"
Taken = dict[int, dict[str, float]]  # seconds of the processor, by the number of molecules and the program
PROGRAMS = ("atomsml", "mace-torch, ASE", "mace-torch, batches")
ALIKE = 2e-3  # eV/A: forces of two programs in float32, of molecules at rest and models of random weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--molecules", type=int, default=5000)
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/speed.md as well")
    arguments = parser.parse_args()
    ours, official = both_files(ORGANIC, arguments.output / "models")
    structures = arguments.output / f"{arguments.molecules}.extxyz"
    if not structures.exists():
        ase.io.write(structures, molecules(arguments.data, arguments.molecules))
    for program in arguments.only:
        measure(program, ours, official, structures)
    taken = read_taken(arguments.output)
    text = f"{machine()}, one thread.\n\n{report(taken)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "speed.md", SECTION, text)
        replace_row(README, SPEED, readme_row(taken))


def command(program: str, ours: Path, official: Path, structures: Path, written: Path) -> list[str]:
    peer = peer_python()
    mace_eval = [str(peer.with_name("mace_eval_configs")), f"--configs={structures}"]
    mace_eval += [f"--model={in_float32(official)}", f"--output={written}"]
    return {
        "atomsml": [
            *(sys.executable, "-m", "atomsml.cli", "energy", str(structures), "--precision=float32", "--device=cpu"),
            *(f"--model={ours}", f"--output={written}"),
        ],
        "mace-torch, ASE": [
            *(str(peer), "-W", "ignore", "-m", "benchmarks.shared.peer_energies"),
            *map(str, (official, structures, written)),
        ],
        "mace-torch, batches": [*mace_eval, "--default_dtype=float32", "--batch_size=64"],
    }[program]


def measure(program: str, ours: Path, official: Path, structures: Path) -> None:
    """Run the command of a program, and write down what it took."""
    written = results(structures, program)
    environment = {name: value for name, value in os.environ.items() if name not in TUNING}
    environment |= {"OMP_NUM_THREADS": "1", **UNPICKLED}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    asked = command(program, ours, official, structures, written)
    subprocess.run(asked, env=environment, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{program}: {taken:.1f} s of the processor, {wall:.1f} s", flush=True)
    written.with_suffix(".json").write_text(json.dumps({"processor": taken, "wall": wall}), encoding="utf-8")


def results(structures: Path, program: str) -> Path:
    return structures.with_name(f"{structures.stem}-{program.replace(', ', '-')}.extxyz")


def read_taken(folder: Path) -> Taken:
    """What has been measured; the forces of programs must be the same."""
    taken: Taken = {}
    files = [path for path in folder.glob("*.extxyz") if path.stem.isdigit()]
    for structures in sorted(files, key=lambda path: int(path.stem)):
        done = {name: path for name in PROGRAMS if (path := results(structures, name).with_suffix(".json")).exists()}
        if done:
            check_alike([path.with_suffix(".extxyz") for path in done.values()])
            seconds = {name: json.loads(path.read_text(encoding="utf-8"))["processor"] for name, path in done.items()}
            taken[int(structures.stem)] = seconds
    return taken


def report(taken: Taken) -> str:
    rows = []
    for count, of_programs in taken.items():
        ours = of_programs.get(PROGRAMS[0])
        for name, x in of_programs.items():
            ratio = f"{x / ours:.1f}" if ours else ""
            rows.append([name, f"{count:,}", three_digits(x), three_digits(1000 * x / count), ratio])
    return table(["program", "molecules", "seconds", "ms a molecule", f"times {PROGRAMS[0]}'s"], rows)


def readme_row(taken: Taken) -> list[str]:
    """Of the largest file that a peer has computed as well, by the faster of its ways."""
    count, found = max((count, x) for count, x in taken.items() if len(x) > 1 and PROGRAMS[0] in x)
    ours, theirs = found[PROGRAMS[0]], min(x for name, x in found.items() if name != PROGRAMS[0])
    work = f"`atomsml energy` of a file of {count:,} molecules, start to end"
    cells = [f"{three_digits(ours)} s", f"mace-torch: {three_digits(theirs)} s", f"{theirs / ours:.1f}"]
    return [work, *cells, "`work.energy_file`"]


def check_alike(files: Sequence[Path]) -> None:
    """Forces of the first structures, under the names of each program.

    Raises:
        ValueError: they differ.
    """
    found = [[forces(atoms) for atoms in ase.io.iread(path, ":20")] for path in files]
    for path, other in zip(files[1:], found[1:], strict=True):
        worst = max(float(np.abs(a - b).max()) for a, b in zip(found[0], other, strict=True))
        if worst > ALIKE:
            raise ValueError(f"forces in {path} differ from those in {files[0]} by up to {worst:.2g} eV/A")


def forces(atoms: ase.Atoms) -> np.ndarray:
    return atoms.arrays["MACE_forces"] if "MACE_forces" in atoms.arrays else atoms.get_forces()


if __name__ == "__main__":
    main()
