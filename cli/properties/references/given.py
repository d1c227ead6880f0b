"""References that a command line names: structures, which the model of the run relaxes, and tables of energies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ase

    from atomsml.properties.engine import Engine
    from atomsml.properties.references import Reference
    from atomsml.properties.task import Start


@dataclass
class GivenReferences:
    """What was given, and what has been relaxed of it in this process."""

    structures: dict[str, ase.Atoms]  # by the file, and the frame where there are several
    tabled: list[Reference]
    relaxed: dict[str, Reference] = field(default_factory=dict)

    @staticmethod
    def read(paths: Sequence[str]) -> GivenReferences:
        """
        Raises:
            ValueError: one that cannot be read; names it.
            OSError: one that is missing.
        """
        from atomsml.cli.job import label, read_records_aloud
        from atomsml.io import Refused
        from atomsml.properties.references import is_table, read_table

        structures: dict[str, ase.Atoms] = {}
        tabled: list[Reference] = []
        tables = [path for path in paths if Path(path).is_file() and is_table(Path(path))]
        for path in tables:
            tabled += read_table(Path(path))
        others = [path for path in paths if path not in tables]
        for record in read_records_aloud(others, None) if others else ():
            if isinstance(record, Refused):
                raise ValueError(f"reference {record}")
            structures[label(record)] = record.atoms
        return GivenReferences(structures, tabled)

    def of(self, elements: Collection[str], engine: Engine, start: Start) -> list[Reference]:
        """All that consist of these elements; each is relaxed when it is first needed.

        Raises:
            ValueError: one that finds no minimum; names it.
        """
        from atomsml.properties.references import relaxed_references

        needed = {name: atoms for name, atoms in self.structures.items() if set(atoms.symbols) <= set(elements)}
        waiting = {name: atoms for name, atoms in needed.items() if name not in self.relaxed}
        self.relaxed |= {each.name: each for each in relaxed_references(waiting, engine, start)}
        tabled = [each for each in self.tabled if set(each.amounts) <= set(elements)]
        return [self.relaxed[name] for name in needed] + tabled

    def beside(self) -> dict[str, ase.Atoms | str]:
        """All that was read, by names."""
        return {**self.structures, **{each.name: repr(each) for each in self.tabled}}

    def notes(self, elements: Collection[str]) -> list[str]:
        """What is to be told of the references that consist of these elements."""
        notes = []
        molecules = [
            name
            for name, atoms in self.structures.items()
            if set(atoms.symbols) <= set(elements) and not atoms.pbc.any()
        ]
        if molecules:
            notes.append(f"{', '.join(molecules)} is no crystal: see whether this model knows molecules and lone atoms")
        if any(set(each.amounts) <= set(elements) for each in self.tabled):
            notes.append("energies of a table are used: they must be of this very model")
        return notes
