"""The journal of a relaxation of many: a line for each structure that is done, from which --resume goes on.

The first line says of which run it is. A line that was torn off when the process was killed does not count. The file is
removed when all structures are done.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer

from atomsml.cli.simulate.identity import check_same_run

if TYPE_CHECKING:
    import ase

    from atomsml.io import Refused, StructureRecord


@dataclass
class Journal:
    """What is done, by the numbers of the inputs: JSON objects, and relaxed structures with their results."""

    path: Path
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    images: dict[int, ase.Atoms] = field(default_factory=dict)
    _file: IO[str] | None = None

    def add(self, number: int, record: dict[str, Any], atoms: ase.Atoms) -> None:
        """Note a structure; what this has returned from outlives the process."""
        from atomsml.io.outputs import naming_file

        self.records[number], self.images[number] = record, atoms
        assert self._file is not None
        with naming_file(self.path):
            self._file.write(json.dumps(_line(number, record, atoms)) + "\n")
            self._file.flush()


@contextmanager
def open_journal(
    path: Path, identity: Mapping[str, Any], inputs: Sequence[StructureRecord | Refused], resume: bool
) -> Iterator[Journal]:
    """A journal to which lines are added, with what an interrupted run had done where it is to go on.

    Without `resume` an older one is put aside, and a line says so.

    Raises:
        ValueError: the interrupted run was another: says what differs.
        OSError: the file cannot be written.
    """
    from atomsml.io.outputs import naming_file

    journal = Journal(path)
    if resume and path.exists():
        end = _read(journal, identity, inputs)
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


def _read(journal: Journal, identity: Mapping[str, Any], inputs: Sequence[StructureRecord | Refused]) -> int:
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
                number = found["number"]
                journal.records[number] = found["record"]
                journal.images[number] = _atoms(found, inputs[number])
            end = file.tell()
    return end


def _line(number: int, record: dict[str, Any], atoms: ase.Atoms) -> dict[str, Any]:
    kept = {key: atoms.info[key] for key in ("energy_std", "stress_std") if key in atoms.info}
    results = {**atoms.calc.results, **kept}
    if "forces_std" in atoms.arrays:
        results["forces_std"] = atoms.arrays["forces_std"]
    return {
        "number": number,
        "record": record,
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "results": {key: value.tolist() if hasattr(value, "tolist") else value for key, value in results.items()},
    }


def _atoms(line: dict[str, Any], source: StructureRecord | Refused) -> ase.Atoms:
    """The relaxed structure: the input with other positions."""
    import numpy as np

    from atomsml.cli.output import with_results
    from atomsml.io import Refused

    assert not isinstance(source, Refused)
    atoms = source.atoms.copy()
    atoms.set_cell(line["cell"])
    atoms.set_positions(line["positions"], apply_constraint=False)
    results = {key: np.asarray(value) if isinstance(value, list) else value for key, value in line["results"].items()}
    return with_results(atoms, results)


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
