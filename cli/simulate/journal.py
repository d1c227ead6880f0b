"""The journal of a run of many structures: a line for each that is done, from which --resume goes on.

The first line says of which run it is. A line that was torn off when the process was killed does not count. The file is
removed when all structures are done.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import typer

from atomsml.cli.simulate.identity import check_same_run


@dataclass
class Journal:
    """What is done, by the numbers of the inputs: JSON objects of the results, and of what else must be kept."""

    path: Path
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    kept: dict[int, dict[str, Any]] = field(default_factory=dict)
    _file: IO[str] | None = None

    def add(self, number: int, record: dict[str, Any], kept: dict[str, Any] | None = None) -> None:
        """Note a structure; what this has returned from outlives the process."""
        from atomsml.io.outputs import naming_file

        self.records[number], self.kept[number] = record, kept or {}
        assert self._file is not None
        with naming_file(self.path):
            self._file.write(json.dumps({"number": number, "record": record, **self.kept[number]}) + "\n")
            self._file.flush()


@contextmanager
def open_journal(path: Path, identity: Mapping[str, Any], resume: bool) -> Iterator[Journal]:
    """A journal to which lines are added, with what an interrupted run had done where it is to go on.

    Without `resume` an older one is put aside, and a line says so.

    Raises:
        ValueError: the interrupted run was another: says what differs.
        OSError: the file cannot be written.
    """
    from atomsml.io.outputs import naming_file

    journal = Journal(path)
    if resume and path.exists():
        end = _read(journal, identity)
        os.truncate(path, end)
    elif path.exists():
        older = _put_aside(path)
        typer.echo(f"note: begins anew; what the interrupted run had done is in {older}", err=True)
    with naming_file(path), path.open("a", encoding="utf-8") as file:
        if not path.stat().st_size:
            file.write(json.dumps({"run": identity}) + "\n")
            file.flush()
        journal._file = file
        try:
            yield journal
        finally:
            if not journal.records:  # nothing to go on with
                remove(path)


def _read(journal: Journal, identity: Mapping[str, Any]) -> int:
    """Fill the journal from its file; returns where its last whole line ends."""
    end = 0
    with journal.path.open("rb") as file:
        for line in file:
            try:
                found = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                found = None
            if not isinstance(found, dict):
                break
            if end == 0:
                check_same_run(found.get("run", {}), identity, journal.path)
            else:
                number, record = found.pop("number"), found.pop("record")
                journal.records[number], journal.kept[number] = record, found
            end = file.tell()
    return end


def _put_aside(path: Path) -> Path:
    from atomsml.io.outputs import visible

    number = 1
    while visible(path, "previous", number).exists():
        number += 1
    older = visible(path, "previous", number)
    os.replace(path, older)
    return older


def remove(path: Path) -> None:
    """Of a run that is complete."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
