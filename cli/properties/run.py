"""Runs a property over many structures: reads, checks, computes, keeps what is done, and writes table and pictures.

| in the folder | what |
|---|---|
| eos.csv, eos.json | rows, or all that is known, of each structure |
| NAME.png, NAME-relaxed.extxyz, ... | of one structure, written as soon as it is done |
| eos.summary.json | what is needed to repeat the run |
| eos.journal.jsonl | of a run that was stopped: what is done; --resume goes on there |
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import Shared

if TYPE_CHECKING:
    from atomsml.cli.job import Job
    from atomsml.cli.simulate.journal import Journal
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import OutputSet, StructureRecord

ROOM = ".".ljust(32, "x")  # as long as the longest ending of the name of a file of a structure may be
PARTS, LARGEST_PART = 4, 256  # into how many parts each device has its share; structures of a part at most


class Folder:
    """The files of a run; `names` are those of the inputs, without endings."""

    def __init__(self, path: Path, command: str, names: Sequence[str], resume: bool) -> None:
        from atomsml.cli.files import earlier_files

        self.path, self.names = path, names
        self.table, self.everything = path / f"{command}.csv", path / f"{command}.json"
        self.journal = path / f"{command}.journal.jsonl"
        self._earlier, self._goes_on = earlier_files(self.table), resume and self.journal.exists()

    def file(self, number: int, ending: str) -> Path:
        """
        Raises:
            ValueError: it would replace a file that is not of an earlier run.
        """
        path = self.path / f"{self.names[number]}{ending}"
        if path.exists() and not self._goes_on and path.name not in self._earlier:
            raise ValueError(
                f"{path} is there already, and is not of an earlier run that was complete; --resume goes on with one "
                "that was interrupted, or choose another folder"
            )
        return path


def run(context: typer.Context, command: PropertyCommand[Any], shared: Shared) -> None:
    """Everything between the options of a command and its exit status."""
    from atomsml.cli.files import end_interrupted, open_outputs
    from atomsml.cli.job import prepare, stop_if
    from atomsml.cli.output import check_writable, write_summary
    from atomsml.cli.simulate.devices import devices_of
    from atomsml.cli.simulate.identity import run_identity
    from atomsml.cli.simulate.journal import open_journal, remove
    from atomsml.cli.simulate.names import names_by_source
    from atomsml.cli.simulate.shards import Shard

    shard = Shard.parse(shared.shard)
    path = Path(command.name) if shared.output is None else shared.output
    devices = devices_of(shared.device, shared.precision)
    check_writable(path / f"{command.name}.csv")
    job = prepare(
        shared.inputs,
        shared.format,
        shared.model,
        devices[0],
        shared.precision,
        shared.exact,
        shared.strict,
        command.check,
        command.elements,
        shared.d3,
    )
    identity = run_identity(context, job.model, job.inputs, beside=command.beside())
    job.inputs = command.combined(job.inputs)
    for each in job.inputs:
        stop_if(shared.strict, each)
    names = [name.removesuffix(ROOM) for name in names_by_source(job.inputs, ROOM)]
    job.inputs = shard.of(job.inputs)
    job.require_some()
    base = shard.name(Path(command.name)).name
    folder = Folder(path, base, shard.of(names), shared.resume)
    with (
        open_outputs(context, folder.table, [folder.table], [folder.everything]) as files,
        open_journal(folder.journal, identity, shared.resume) as journal,
    ):
        stop = _compute_all(job, command, devices, folder, journal, shared)
        records = [journal.records[number] for number in sorted(journal.records)]
        if stop is not None and not records:
            raise stop
        job.require_some()
        files.interrupted = stop is not None
        _write_table(files, folder.table, command, records)
        _write_json(files, folder.everything, records)
        written = [folder.table, folder.everything, *(name for each in journal.kept.values() for name in each["files"])]
        facts = replace(job.facts(devices), results={"run": identity, **shard.facts(job.inputs)})
        write_summary(files, folder.table, context, facts, written, [*_unfinished(records), *job.refusals()])
    if stop is None:
        remove(folder.journal)
    _tell(command, job, records, shared.as_json)
    if stop is not None:
        kept = f"{len(records)} of {len(job.inputs)} structures are in {path}/"
        end_interrupted(files, stop, f"{kept}; --resume goes on by {folder.journal}")
    job.end(failed=bool(_unfinished(records)))


def _compute_all(
    job: Job,
    command: PropertyCommand[Any],
    devices: Sequence[str],
    folder: Folder,
    journal: Journal,
    shared: Shared,
) -> KeyboardInterrupt | ChildProcessError | None:
    """Compute every structure that the journal does not have, and note it there; returns as `compute_waiting`."""
    from atomsml.cli.simulate.waiting import compute_waiting

    def compute(structures: dict[int, StructureRecord]) -> Iterator[tuple[int, Any]]:
        return _results(job, command, devices, structures, shared.strict)

    def keep(number: int, structure: StructureRecord, result: Any) -> None:
        _keep(command, result, structure, number, folder, journal, shared.pictures)

    return compute_waiting(job, journal.records, compute, keep)


def _results(
    job: Job,
    command: PropertyCommand[Any],
    devices: Sequence[str],
    structures: dict[int, StructureRecord],
    strict: bool,
) -> Iterator[tuple[int, Any]]:
    """By the numbers of the inputs, as they are there; those without a result are refused."""
    from atomsml.cli.job import stop_if
    from atomsml.cli.simulate.devices import stream
    from atomsml.cli.simulate.progress import progress
    from atomsml.properties.task import Failure, Standing

    if not structures:
        return
    numbers, given = list(structures), list(structures.values())
    task = partial(_find, command, max(Counter(devices).values()))
    part = max(1, min(LARGEST_PART, len(given) // (PARTS * len(devices))))
    with progress(command.name, len(given)) as report, closing(stream(job, devices, task, given, part)) as found:
        done = 0
        for i, result in found:
            structure = structures[numbers[i]]
            if isinstance(result, Standing):
                report(done, f"{structure.atoms.get_chemical_formula()}: {result.words}")
                continue
            done += 1
            if isinstance(result, Failure):
                stop_if(strict, job.refuse(structure, result.reason))
            else:
                yield numbers[i], result
            report(done, structure.atoms.get_chemical_formula())


def _find(
    command: PropertyCommand[Any], sharing: int, calculator: AtomsMLCalculator, structures: Sequence[StructureRecord]
) -> Iterable[tuple[int, Any]]:
    from atomsml.properties.engine import Engine

    engine = Engine.of(calculator, [each.atoms for each in structures], sharing)
    return command.find([command.given(each) for each in structures], engine)


def _keep(
    command: PropertyCommand[Any],
    result: Any,
    structure: StructureRecord,
    number: int,
    folder: Folder,
    journal: Journal,
    pictures: bool,
) -> None:
    """Write the files of a structure, and note it in the journal."""
    from atomsml.cli.job import identity
    from atomsml.cli.output import write_structures
    from atomsml.io import OutputSet, write_atomically

    record = _finite({**identity(structure), **command.record(result)})
    paths = []
    for ending, frames in command.structures(result).items():
        paths.append(folder.file(number, ending))
        with OutputSet([paths[-1]], keeps_remains=False) as file:
            write_structures(file, paths[-1], list(frames))
    for ending, text in command.texts(result).items():
        paths.append(folder.file(number, ending))
        write_atomically(paths[-1], partial(Path.write_text, data=text, encoding="utf-8"))
    figure = command.draw(record) if pictures else None
    if figure is not None:
        paths.append(folder.file(number, ".png"))
        write_atomically(paths[-1], partial(figure.savefig, dpi=150))
    journal.add(number, record, {"files": [str(path) for path in paths]})


def _finite(value: Any) -> Any:
    """JSON has no NaN and no arrays: None and lists instead, at any depth."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_table(files: OutputSet, path: Path, command: PropertyCommand[Any], records: Sequence[Any]) -> None:
    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "index", "formula", *command.columns.values(), "notes"])
            for each, row in _rows(command, records):
                cells = [each["file"], each["index"], each["formula"], *(row[key] for key in command.columns)]
                table.writerow([*cells, "; ".join(row.get("notes", []))])

    files.write(path, write)


def _rows(command: PropertyCommand[Any], records: Sequence[Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Of the table, each with the record that it is of."""
    for each in records:
        for row in command.rows(each):
            yield each, row


def _unfinished(records: Sequence[Any]) -> list[dict[str, Any]]:
    """What of the records has no answer."""
    some = [each for each in records if each.get("unfinished")]
    return [{key: each[key] for key in ("file", "index", "unfinished")} for each in some]


def _write_json(files: OutputSet, path: Path, records: Sequence[Any]) -> None:
    text = json.dumps(records, indent=1, allow_nan=False) + "\n"
    files.write(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def _tell(command: PropertyCommand[Any], job: Job, records: Sequence[Any], as_json: bool) -> None:
    """The table, or JSON, on stdout, and the notes on stderr."""
    from atomsml.cli.output import print_json, print_table

    if as_json:
        print_json(job.in_order(records))
    else:
        rows = [
            [each["file"], str(each["index"]), each["formula"], *(_shown(row[key]) for key in command.columns)]
            for each, row in _rows(command, records)
        ]
        print_table(["file", "index", "formula", *command.columns.values()], rows)
    for each in records:
        for note in each.get("notes", []):
            typer.echo(f"note: {each['file']}, frame {each['index']}: {note}", err=True)
        for part in each.get("unfinished", []):
            typer.echo(f"unfinished: {each['file']}, frame {each['index']}: {part}", err=True)


def _shown(value: Any) -> str:
    """Six digits of a number: meV of an energy of hundreds of eV."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
