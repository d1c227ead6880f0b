"""The files of all shards as those of one run: structures and tables in the order of the inputs, and a summary."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from atomsml.cli.simulate.parts import ENDING, Part

if TYPE_CHECKING:
    import ase

    from atomsml.io import OutputSet

Each = TypeVar("Each")


class Merged:
    """Of parts that are complete and in their order.

    Raises:
        ValueError: an output whose suffix is no format of structures, or for a table another than .csv.
    """

    def __init__(self, parts: Sequence[Part], output: Path | None) -> None:
        from atomsml.cli.files import summary_path
        from atomsml.io.outputs import beside

        self.parts, first = parts, parts[0]
        self.structures = sum(len(part.done) for part in parts)
        self.failed = [each for part in parts for each in part.summary["failed"]]
        listed = [path for path in map(Path, first.summary["outputs"]) if path.stem.endswith(first.mark)]
        if first.summary["command"] == "md":
            listed = []  # trajectories are not for one list
        if listed:
            self.main = output or self._unmarked(listed[0], first)
        else:
            self.main = output or self._unmarked(first.path.with_name(first.path.name.removesuffix(ENDING)), first)
        tables = {".csv"} if first.summary["command"] in ("energy", "relax") else {".csv", ".json"}
        self._tables = {path.suffix: beside(self.main, path.suffix) for path in listed if path.suffix in tables}
        self._has_structures = bool(listed) and listed[0].suffix not in tables
        self._check_main(listed)
        self.summary = summary_path(self.main)

    def _unmarked(self, path: Path, part: Part) -> Path:
        return path.with_name(path.name.replace(part.mark, "", 1))

    def _check_main(self, listed: Sequence[Path]) -> None:
        from atomsml.cli.output import check_output, check_writable

        if self._has_structures:
            check_output(self.main, self.structures)
        elif listed and self.main.suffix != listed[0].suffix:
            raise ValueError(
                f"cannot write the table of these shards to {self.main}; use the suffix {listed[0].suffix}"
            )
        check_writable(self.main)

    @property
    def notes(self) -> list[str]:
        """What is to be said of the shards."""
        versions = {json.dumps(part.summary["versions"], sort_keys=True) for part in self.parts}
        return ["shards were computed with different versions; the summary has them all"] if len(versions) > 1 else []

    @property
    def targets(self) -> list[Path]:
        """What is written."""
        structures = [self.main] if self._has_structures else []
        return [*structures, *self._tables.values(), self.summary]

    def write(self, files: OutputSet) -> None:
        """
        Raises:
            ValueError: a file that does not hold what its summary says.
            OSError: a file that is not there.
        """
        from atomsml.cli.output import write_structures

        # all is read before anything is written
        frames = [_structures(self._named(part)[0]) for part in self.parts] if self._has_structures else None
        records = [self._records(part) for part in self.parts] if ".json" in self._tables else None
        lines = self._lines(records) if ".csv" in self._tables else None
        if frames is not None:
            write_structures(files, self.main, self._in_order(frames))
        if lines is not None:
            _write_csv(files, self._tables[".csv"], lines)
        if records is not None:
            _write_json(files, self._tables[".json"], self._in_order(records))
        _write_json(files, self.summary, self._summary())

    def _named(self, part: Part) -> list[Path]:
        """Its outputs that are to be merged; they may have been moved, with their summary."""
        listed = [Path(path) for path in part.summary["outputs"]]
        return [part.path.with_name(path.name) for path in listed if path.stem.endswith(part.mark)]

    def _in_order(self, lists: Sequence[Sequence[Each]]) -> list[Each]:
        """What the parts have of each input, in the order of the inputs."""
        numbered = list[tuple[int, Each]]()
        for part, some in zip(self.parts, lists, strict=True):
            if len(some) != len(part.done):
                raise ValueError(
                    f"an output of {part} holds {len(some)} structures, its summary {part.path} says {len(part.done)}; "
                    "run that shard again"
                )
            numbered += zip(part.done, some, strict=True)
        return [each for _, each in sorted(numbered, key=lambda pair: pair[0])]

    def _records(self, part: Part) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._file(part, ".json").read_text(encoding="utf-8"))
        return found

    def _lines(self, records: Sequence[Sequence[dict[str, Any]]] | None) -> list[list[str]]:
        """Header and rows, whose number for each structure follows from the records; one each where there are none."""
        headers, rows = list[list[str]](), list[list[list[list[str]]]]()
        for i, part in enumerate(self.parts):
            with self._file(part, ".csv").open(newline="", encoding="utf-8") as file:
                header, *lines = csv.reader(file)
            headers.append(header)
            # relax says in which file a structure is
            moved = {str(part.summary["outputs"][0]): str(self.main)} if self._has_structures else {}
            lines = [[moved.get(cell, cell) for cell in line] for line in lines]
            rows.append([[line] for line in lines] if records is None else _by_structure(lines, records[i]))
        if any(header != headers[0] for header in headers):
            raise ValueError("the tables of the shards have different columns; run them with one version")
        return [headers[0], *(line for some in self._in_order(rows) for line in some)]

    def _file(self, part: Part, suffix: str) -> Path:
        return next(path for path in self._named(part) if path.suffix == suffix)

    def _summary(self) -> dict[str, Any]:
        """As that of one run, and what is different from shard to shard."""
        first = self.parts[0].summary
        per_shard = ("device", "versions", "wall_time_s")
        kept = {key: value for key, value in first.items() if key not in (*per_shard, "shard")}
        merged = [str(path) for path in self.targets[:-1]]
        others = [
            path
            for part in self.parts
            for path in part.summary["outputs"]
            if not merged or part.mark not in Path(path).stem
        ]
        return {
            **kept,
            "options": {**first["options"], "output": str(self.main), "shard": None},
            "structures": self.structures,
            "failed": self.failed,
            "outputs": [*merged, *dict.fromkeys(others)],
            "shards": [
                {"summary": str(part.path), **{key: part.summary[key] for key in per_shard}} for part in self.parts
            ],
        }


def _structures(path: Path) -> list[ase.Atoms]:
    import ase.io

    from atomsml.io import StructureRecord, read_records
    from atomsml.io.sdf import MOL_FILES

    if path.suffix.lower() in MOL_FILES:  # with their bonds
        return [each.atoms for each in read_records([str(path)], None) if isinstance(each, StructureRecord)]
    return list(ase.io.read(path, ":"))


def _by_structure(lines: Sequence[list[str]], records: Sequence[dict[str, Any]]) -> list[list[list[str]]]:
    """The rows of each record, which begin with its names; a structure that was given twice has the same rows twice.

    Raises:
        ValueError: a record without rows, or rows without a record.
    """
    names = [tuple(str(record[key]) for key in ("file", "index", "formula")) for record in records]
    counts, of_name = Counter(names), defaultdict[tuple[str, ...], list[list[str]]](list)
    for line in lines:
        of_name[tuple(line[:3])].append(line)
    if of_name.keys() != counts.keys() or any(len(rows) % counts[name] for name, rows in of_name.items()):
        raise ValueError("a table does not go with the .json beside it; run that shard again")
    rows = {name: iter(some) for name, some in of_name.items()}
    return [list(islice(rows[name], len(of_name[name]) // counts[name])) for name in names]


def _write_csv(files: OutputSet, path: Path, lines: Sequence[Sequence[str]]) -> None:
    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)

    files.write(path, write)


def _write_json(files: OutputSet, path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1) + "\n"
    files.write(path, lambda beside: beside.write_text(text, encoding="utf-8"))
