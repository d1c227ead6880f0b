"""Results in a database of ASE (SQLite): a row for each structure, and what is needed to repeat the work.

    ase db relaxed.db converged=True -s energy

A row has the number of the structure among the inputs, `state` done or failed, the reason, and what the work tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path
from typing import Any

import ase
import ase.db

from atomsml.interfaces.screening.screen import screen
from atomsml.interfaces.screening.works import Calculation, Found
from atomsml.io.digest import digest_of
from atomsml.properties.task import Failure

PAUSE = 2.0  # s between two times that rows are written: each costs tens of ms, however many rows


def screen_into(
    path: str | Path,
    structures: Sequence[ase.Atoms],
    work: Calculation,
    executor: Executor | Callable[[], Executor],
    chunk: int = 64,
    at_once: int | None = None,
    retries: int = 2,
) -> Iterator[tuple[int, Found | Failure]]:
    """As `screen`, and keeps every answer in the database `path`, which ends in .db.

    Where the database is there already, it goes on: structures that are done are left out, and those that failed are
    tried again. A process that is killed loses the last seconds, and the next one computes these again.

    Raises:
        ValueError: another suffix, or a database of other structures or of other work.
    """
    with closing(Database(path, structures, work)) as database:
        left = database.left()
        for place, found in screen([structures[i] for i in left], work, executor, chunk, at_once, retries):
            database.add(left[place], found)
            yield left[place], found


class Database:
    """Rows by the numbers of the structures; each is there once.

    Raises:
        ValueError: as `screen_into`.
    """

    def __init__(self, path: str | Path, structures: Sequence[ase.Atoms], work: Calculation) -> None:
        if Path(path).suffix != ".db":
            raise ValueError(f"{path} must end in .db, by which ASE knows its databases")
        self._structures = structures
        self._rows: dict[int, int] = {}  # number -> id
        self._failed = set[int]()
        self._unwritten: list[tuple[int, Found | Failure]] = []
        self._due = 0.0
        there = Path(path).exists()
        # SQLite locks by itself; a file that locks would be left by a process that is killed
        self._connection = ase.db.connect(path, use_lock_file=False)
        provenance = {**work.provenance(), "structures": digest_of(("", atoms) for atoms in structures)}
        if there:
            self._read(Path(path), provenance)
        else:
            self._connection.metadata = {"title": f"atomsml {provenance['work']}", "provenance": provenance}

    def _read(self, path: Path, provenance: dict[str, Any]) -> None:
        known = self._connection.metadata.get("provenance", {})
        for key, what in (("structures", "other structures"), ("work", "other work"), ("model", "another model")):
            if known.get(key) != provenance[key]:
                raise ValueError(f"{path} is of {what}; choose another file, or give what it was made with")
        if known.get("options") != provenance["options"]:
            raise ValueError(f"{path} is of other options, {known.get('options')}; choose another file, or give these")
        for row in self._connection.select(include_data=False):
            self._rows[row.number] = row.id
            if row.state == "failed":
                self._failed.add(row.number)

    def left(self) -> list[int]:
        """Numbers of the structures that have no result."""
        return [i for i in range(len(self._structures)) if i not in self._rows or i in self._failed]

    def add(self, number: int, found: Found | Failure) -> None:
        """Keep an answer; it is written within seconds, or by `close`."""
        self._unwritten.append((number, found))
        if time.monotonic() >= self._due:
            self._write()

    def close(self) -> None:
        self._write()

    def _write(self) -> None:
        with self._connection:
            for number, found in self._unwritten:
                if number in self._rows:
                    self._connection.delete([self._rows[number]])
                self._rows[number] = self._write_row(number, found)
        self._unwritten = []
        self._due = time.monotonic() + PAUSE

    def _write_row(self, number: int, found: Found | Failure) -> int:
        if isinstance(found, Failure):
            row = self._connection.write(self._structures[number], number=number, state="failed", reason=found.reason)
        else:
            row = self._connection.write(found.atoms, number=number, state="done", **found.facts)
        return int(row)
