"""Bonds of molecules from their positions, each with a time limit that holds.

RDKit's search for bond orders can take hours or all memory of a molecule that makes no sense (its issues 7922, 9227 and
5902), and nothing inside the process can stop it. So it runs in worker processes; one that takes too long is killed and
replaced, and its molecule has no bonds, for a reason.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import ase
import numpy as np

from atomsml.io import mol_from_positions

if TYPE_CHECKING:
    from rdkit.Chem import Mol

# times the sum of their covalent radii: atoms that are closer are bonded. RDKit's usual 1.3 joins atoms across rings
# in 31 of 885 molecules of QM9, which then have no bond orders; 1.2 does in 7
REACH = 1.2
TIME_LIMIT = 10.0  # s for one molecule; those that make sense take a thousandth of it
MAX_ATOMS = 200
MAX_WORKERS = 8


@dataclass(frozen=True)
class Perceived:
    """What a neutral molecule is made of."""

    reason: str = ""  # why there is nothing below; "" if there is
    fragments: int = 0  # pieces by distances; 0 where unknown
    bonds: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    # (bonds, 3) two atoms, and 1 single, 2 double, 3 triple or 4 aromatic
    charges: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (atoms,) formal charges
    smiles: str = ""  # canonical, without hydrogens and without stereochemistry


def perceive(
    molecules: Sequence[ase.Atoms], time_limit: float = TIME_LIMIT, workers: int | None = None
) -> Iterator[Perceived]:
    """Bond orders, formal charges and SMILES of each molecule in turn, whatever bonds its file may have had.

    Connectivity comes from distances (REACH), bond orders and charges from valences with
    total charge 0 (Kim & Kim, Bull. Korean Chem. Soc. 36, 1769 (2015)), aromaticity from RDKit. `workers` processes
    work at a time, by default one for each processor and 8 at most.

    Raises:
        OSError: a worker cannot be started.
    """
    count = max(1, min(workers or os.cpu_count() or 1, MAX_WORKERS, len(molecules)))
    crew = [_Worker(time_limit) for _ in range(count)]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in crew:
        idle.put(worker)

    def perceive_one(atoms: ase.Atoms) -> Perceived:
        worker = idle.get()
        try:
            return worker.perceive(atoms)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(count)
    try:
        yield from threads.map(perceive_one, molecules)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in crew:
            worker.kill()  # a caller who stops early need not wait for a molecule that hangs
        threads.shutdown()
        for worker in crew:
            worker.close()


def perceived_mol(atoms: ase.Atoms, found: Perceived) -> Mol:
    """The molecule with the bonds and formal charges that were perceived, sanitised, at its positions.

    Raises:
        ValueError: none were.
    """
    from rdkit import Chem

    if found.reason:
        raise ValueError(f"this molecule has no bonds: {found.reason}")
    bonds, charges = found.bonds.tolist(), found.charges.tolist()
    mol = mol_from_positions(atoms.numbers.tolist(), atoms.positions.tolist(), bonds, charges)
    Chem.SanitizeMol(mol)
    return mol.GetMol()


class _Worker:
    """A process that is started when it is needed, and again after one that was killed."""

    def __init__(self, time_limit: float) -> None:
        self._time_limit = time_limit
        self._process: subprocess.Popen[str] | None = None

    def perceive(self, atoms: ase.Atoms) -> Perceived:
        if len(atoms) == 0:
            return Perceived("no atoms")
        if len(atoms) > MAX_ATOMS:
            return Perceived(f"more than {MAX_ATOMS} atoms")
        if not np.isfinite(atoms.positions).all():
            return Perceived("a position that is not finite")
        question = json.dumps({"encoded": _encoded(atoms), "reach": REACH})
        process = self._process = self._process or _start()
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(self._time_limit, expire)
        timer.start()
        answer = _ask(process, question)
        timer.cancel()
        timer.join()
        if expired.is_set() or not answer:
            self.close()
        if answer:
            return _perceived(json.loads(answer))
        if expired.is_set():
            return Perceived(f"perception took more than {self._time_limit:g} s")
        return Perceived("perception ran out of memory or crashed")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        self.kill()
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError), self._process:  # what it was never asked is lost
                pass
        self._process = None


def _start() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        # -P: the folder of the script is no place to import from
        [sys.executable, "-P", str(Path(__file__).with_name("perception_worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for this process, which then ends them
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":  # importing RDKit does not count as time of the first molecule
        process.kill()
        raise OSError("a process that perceives bonds did not start; check that `python -c 'import rdkit'` works")
    return process


def _encoded(atoms: ase.Atoms) -> str:
    """Atoms and positions, to the last bit, in RDKit's own format."""
    from rdkit.Chem import PropertyPickleOptions

    mol = mol_from_positions(atoms.numbers.tolist(), atoms.positions.tolist())
    return base64.b64encode(mol.ToBinary(int(PropertyPickleOptions.CoordsAsDouble))).decode()


def _ask(process: subprocess.Popen[str], question: str) -> str:
    """The answer, or "" from a process that ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(question + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    answer = process.stdout.readline()
    return answer if answer.endswith("\n") else ""


def _perceived(found: dict[str, object]) -> Perceived:
    return Perceived(
        reason=str(found["reason"]),
        fragments=int(str(found["fragments"])),
        bonds=np.array(found["bonds"], np.int64).reshape(-1, 3),
        charges=np.array(found["charges"], np.int64),
        smiles=str(found["smiles"]),
    )
