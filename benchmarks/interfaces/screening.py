"""Many structures relaxed by workers of Parsl, some of which are killed: nothing is missing, nothing is there twice.

    python -m benchmarks.interfaces.screening FOLDER [--structures 5000] [--workers 2] [--kills 5] [--docs]

Small molecules, distorted by seeds, are relaxed into a database of ASE by local workers of Parsl, one thread each.
Workers are killed by SIGKILL while they compute; half way this process itself leaves, with all that is on its way, and
goes on from the database. Then every input has one row, with the energy that it has when one process relaxes it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import ase
import ase.db
import numpy as np
from ase.build import molecule
from parsl.concurrent import ParslPoolExecutor
from parsl.config import Config
from parsl.executors import HighThroughputExecutor

from atomsml.interfaces.screening.database import screen_into
from atomsml.interfaces.screening.works import Calculation, Found, Relaxations
from atomsml.properties.task import Failure
from benchmarks.shared.reporting import DOCS, processor, replace_section, table

SPECIES = ("H2O", "CH4", "NH3", "HCN", "CO2", "C2H2", "CH3OH", "H2CO")
SECTION = "screening by Parsl"
CHUNK, CHECKED = 32, 50  # structures of a call, and that are relaxed here as well
TOLERANCE = 1e-8  # eV, in float64: results do not depend on what is in a batch


class Watched(Relaxations):
    """Notes which process has been given how many structures; `benchmarks` must be on the path of the workers."""

    def __call__(self, structures: Sequence[ase.Atoms]) -> list[Found | Failure]:
        folder, name = Path(os.environ["SCREENED"]), name_of(os.getpid())
        with (folder / "asked" / name).open("a") as file:
            file.write(f"{len(structures)}\n")
        (folder / "busy" / name).touch()
        found = super().__call__(structures)
        (folder / "busy" / name).unlink()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="is made; must not be there")
    parser.add_argument("--structures", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/interfaces/screening.md as well")
    arguments = parser.parse_args()
    for name in ("asked", "busy"):
        (arguments.folder / name).mkdir(parents=True)
    os.environ.update(SCREENED=str(arguments.folder.resolve()), PYTHONPATH=os.pathsep.join(["", *sys.path]))
    structures = [distorted(i) for i in range(arguments.structures)]
    work = Watched("organic-xtb", device="cpu", precision="float64")
    start = time.perf_counter()
    kills = screen_twice(arguments.folder, structures, work, arguments.workers, arguments.kills)
    seconds = time.perf_counter() - start
    missing, twice, difference = check(arguments.folder, structures)
    asked = sum(int(line) for file in (arguments.folder / "asked").iterdir() for line in file.read_text().split())
    header = [
        "structures",
        "workers",
        "killed",
        "missing",
        "twice",
        "computed again",
        f"largest difference of {CHECKED}",
        "time",
    ]
    row = [f"{len(structures):,}", str(arguments.workers), str(kills), str(missing), str(twice)]
    row += [f"{asked - len(structures):,}", f"{difference:.1e} eV", f"{seconds:.0f} s"]
    text = f"{table(header, [row])}\n\n{processor()}, {os.cpu_count()} cores, one thread a worker"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "interfaces" / "screening.md", SECTION, text)
    if kills < arguments.kills:
        raise SystemExit(f"only {kills} workers were killed; give more --structures")
    if missing or twice or difference > TOLERANCE:
        raise SystemExit("something is missing, there twice, or another result")


def distorted(seed: int) -> ase.Atoms:
    atoms = molecule(SPECIES[seed % len(SPECIES)])
    atoms.rattle(0.05, seed=seed)
    return atoms


def screen_twice(folder: Path, structures: list[ase.Atoms], work: Calculation, workers: int, kills: int) -> int:
    """Until half of the answers are there, and then the rest; returns how many workers were killed."""
    rng, done, killed = random.Random(0), 0, 0
    due = sorted(rng.sample(range(len(structures) // 20, len(structures) * 19 // 20), kills))
    for end in (len(structures) // 2, len(structures)):
        with parsl_executor(folder / "parsl", workers) as executor:
            into = screen_into(folder / "found.db", structures, work, executor, CHUNK, at_once=2 * workers)
            with closing(into):
                for _ in into:
                    done += 1
                    if due and done >= due[0] and kill_one(folder, rng):
                        due.pop(0)
                        killed += 1
                    if done == end:
                        break
    return killed


def parsl_executor(folder: Path, workers: int) -> ParslPoolExecutor:
    local = HighThroughputExecutor(max_workers_per_node=workers, address="127.0.0.1", cores_per_worker=1)
    return ParslPoolExecutor(Config([local], run_dir=str(folder), usage_tracking=0))


def kill_one(folder: Path, rng: random.Random) -> bool:
    """Kill one of the workers that compute; returns whether there was one.

    One that waits for work holds the lock of Parsl's queue: if it were killed, no other worker would get any more.
    """
    busy = folder / "busy"
    names = sorted(file.name for file in busy.iterdir())
    for name in rng.sample(names, len(names)):
        process = int(name.partition("-")[0])
        if name_of(process) != name:
            continue
        os.kill(process, signal.SIGSTOP)  # so that it does not end its work meanwhile
        computes = (busy / name).exists()
        os.kill(process, signal.SIGKILL if computes else signal.SIGCONT)
        if computes:
            (busy / name).unlink()
            return True
    return False


def name_of(process: int) -> str:
    """Its number and when it began: the number alone may go to another process, which nobody may kill."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] == "Z" else f"{process}-{words[19]}"


def check(folder: Path, structures: list[ase.Atoms]) -> tuple[int, int, float]:
    """How many rows are missing or too many, and by how much energies differ from those that are computed here."""
    energies: dict[int, list[float]] = {}
    for row in ase.db.connect(folder / "found.db").select(state="done"):
        energies.setdefault(row.number, []).append(row.energy)
    missing = len(set(range(len(structures))) - energies.keys())
    twice = sum(len(rows) - 1 for rows in energies.values())
    some = sorted(random.Random(1).sample(range(len(structures)), min(CHECKED, len(structures))))
    here = Relaxations("organic-xtb", device="cpu", precision="float64")
    differences = []
    for number in set(some) & energies.keys():
        (alone,) = here([structures[number]])
        assert isinstance(alone, Found)
        differences.append(abs(energies[number][0] - alone.atoms.get_potential_energy()))
    return missing, twice, float(np.max(differences))


if __name__ == "__main__":
    from benchmarks.interfaces import screening  # workers know `Watched` by this name, not as one of a script

    screening.main()
