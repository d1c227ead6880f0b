"""PropertyCommand: what the commands of properties differ in; `run.py` does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.io import Refused, StructureRecord
    from atomsml.properties.engine import Engine
    from atomsml.properties.task import Failure, Standing

Result = TypeVar("Result")


class PropertyCommand(ABC, Generic[Result]):
    """How structures become results, results records, and records a table and pictures.

    It is sent to the processes of several devices, so it must pickle: settings are its attributes.
    """

    name: ClassVar[str]  # of the command, of its folder and its table
    columns: ClassVar[Mapping[str, str]]  # keys of a row of the table -> headings with units
    elements: frozenset[str] = frozenset()  # which the model must know beside those of the inputs

    @abstractmethod
    def check(self, atoms: ase.Atoms) -> None:
        """Refuse a structure before anything is computed.

        Raises:
            ValueError: it has no such property; says why, in one line.
        """

    def combined(self, inputs: Sequence[StructureRecord | Refused]) -> list[StructureRecord | Refused]:
        """Checked inputs, those that belong together as one record: end points of a path."""
        return list(inputs)

    def beside(self) -> Mapping[str, ase.Atoms | str]:
        """What was read beside the inputs, by names, such as references: a run goes on only where it is the same."""
        return {}

    def given(self, structure: StructureRecord) -> Any:
        """What `find` takes of a record."""
        return structure.atoms

    @abstractmethod
    def find(self, structures: Sequence[Any], engine: Engine) -> Iterable[tuple[int, Result | Failure | Standing]]:
        """Results by the places of structures in the list, each when it is there; how it stands may be told before.

        The structures are ase.Atoms, or what `given` makes of a record.
        """

    @abstractmethod
    def record(self, result: Result) -> dict[str, Any]:
        """All that is known as plain JSON, keys with units where a reader needs them.

        What a user must be told of a result that is right stands in the list "notes"; parts without an answer, which
        make the exit status 1, in the list "unfinished".
        """

    def rows(self, record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The rows that a structure has in the table; those that have "notes" of their own show these."""
        return [record]

    def structures(self, result: Result) -> dict[str, Sequence[ase.Atoms]]:
        """Endings of file names -> frames that are written for each structure, such as {"-relaxed.extxyz": [atoms]}."""
        return {}

    def texts(self, result: Result) -> dict[str, str]:
        """Endings of file names -> what is written into files of other programs, such as {"-phonopy.yaml": ...}."""
        return {}

    def draw(self, record: Mapping[str, Any]) -> Figure | None:
        """The picture of a structure, by its record; None: there is none."""
        return None
