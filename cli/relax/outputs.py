"""Where relaxed structures go: into one file, or into a folder with a file for each, named by its source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from atomsml.cli.simulate.names import names_by_source

if TYPE_CHECKING:
    import ase
    import typer

    from atomsml.cli.simulate.shards import Shard
    from atomsml.io import OutputSet, Refused, StructureRecord

SUFFIX = ".extxyz"  # of the files in a folder: holds results and constraints


class Output(ABC):
    """Takes relaxed structures as they are done; beside `base` stand the table, the summary and the journal."""

    def __init__(self, base: Path, shard: Shard) -> None:
        self.base, self.shard = shard.name(base), shard

    @property
    def table(self) -> Path:
        from atomsml.io.outputs import beside

        return beside(self.base, ".csv")

    @property
    def journal(self) -> Path:
        from atomsml.io.outputs import beside

        return beside(self.base, ".journal.jsonl")

    def share(self, inputs: list[StructureRecord | Refused]) -> list[StructureRecord | Refused]:
        """Of all inputs those that are treated here."""
        return self.shard.of(inputs)

    @abstractmethod
    def open(self, context: typer.Context, *named: Path | None) -> AbstractContextManager[OutputSet]:
        """The set of output files, with further ones that the command line names; raises as open_outputs."""

    @abstractmethod
    def check(self, structures: int, resume: bool) -> None:
        """Refuse before the work what could not be written after it.

        Raises:
            ValueError: a format that does not hold so many structures, or files that would be replaced.
            OSError: a path that cannot be written.
        """

    @abstractmethod
    def keep(self, files: OutputSet, done: dict[int, ase.Atoms], number: int) -> None:
        """After input `number` was done: see to it that a run that is killed keeps it."""

    @abstractmethod
    def finish(self, files: OutputSet, done: dict[int, ase.Atoms]) -> None:
        """Write whatever is not written yet; structures by the numbers of their inputs."""

    @abstractmethod
    def place(self, number: int) -> Path:
        """The file in which the structure of an input is."""


class OneFile(Output):
    """All structures in the order of the inputs."""

    def __init__(self, path: Path, shard: Shard) -> None:
        from atomsml.cli.files import now_and_then

        super().__init__(path, shard)
        self._keep = now_and_then(self.finish)

    def __str__(self) -> str:
        return str(self.base)

    def open(self, context: typer.Context, *named: Path | None) -> AbstractContextManager[OutputSet]:
        from atomsml.cli.files import open_outputs

        return open_outputs(context, self.base, [self.base, *named], [self.table])

    def check(self, structures: int, resume: bool) -> None:
        from atomsml.cli.output import check_output

        try:
            check_output(self.base, structures)
        except ValueError as error:
            if self.base.suffix:
                raise
            raise ValueError(f"{error}; or {self.base}/ for a folder") from error

    def keep(self, files: OutputSet, done: dict[int, ase.Atoms], number: int) -> None:
        self._keep(files, done)

    def finish(self, files: OutputSet, done: dict[int, ase.Atoms]) -> None:
        from atomsml.cli.output import write_structures

        write_structures(files, self.base, [done[number] for number in sorted(done)])

    def place(self, number: int) -> Path:
        return self.base


class Folder(Output):
    """A file for each structure, written when it is done."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        super().__init__(folder / f"relax{SUFFIX}", shard)
        self.folder = folder
        self.names: list[str] = []

    def __str__(self) -> str:
        return f"{self.folder}/"

    def share(self, inputs: list[StructureRecord | Refused]) -> list[StructureRecord | Refused]:
        self.names = self.shard.of(names_by_source(inputs, SUFFIX))
        return super().share(inputs)

    def open(self, context: typer.Context, *named: Path | None) -> AbstractContextManager[OutputSet]:
        from atomsml.cli.files import open_outputs, summary_path

        return open_outputs(context, None, [*named, self.table, summary_path(self.base)])

    def check(self, structures: int, resume: bool) -> None:
        from atomsml.cli.output import check_writable

        check_writable(self.base)
        paths = [self.table, self.journal, *(self.folder / name for name in self.names)]
        there = [] if resume else [path for path in paths if path.exists()]
        if there:
            raise ValueError(
                f"{there[0]} is there already; --resume goes on with an interrupted run, or choose another folder"
            )

    def keep(self, files: OutputSet, done: dict[int, ase.Atoms], number: int) -> None:
        from atomsml.cli.output import write_structures
        from atomsml.io import OutputSet

        with OutputSet([self.place(number)], keeps_remains=False) as file:
            write_structures(file, self.place(number), [done[number]])

    def finish(self, files: OutputSet, done: dict[int, ase.Atoms]) -> None:
        for number in done:
            if not self.place(number).exists():
                self.keep(files, done, number)

    def place(self, number: int) -> Path:
        return self.folder / self.names[number]


def output_of(words: str, shard: Shard) -> Output:
    """A folder, where the words end as one or are one without a suffix; otherwise a file."""
    path = Path(words)
    is_folder = words.endswith(("/", "\\")) or (path.is_dir() and not path.suffix)
    return Folder(path, shard) if is_folder else OneFile(path, shard)
