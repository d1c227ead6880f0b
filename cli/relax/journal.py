"""The journal of relaxations: beside what is said of a structure it keeps the relaxed structure itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomsml.cli.simulate import journal as lines

if TYPE_CHECKING:
    import ase

    from atomsml.io import Refused, StructureRecord


class Journal:
    """What is done, by the numbers of the inputs: JSON objects, and relaxed structures with their results."""

    def __init__(self, kept: lines.Journal, inputs: Sequence[StructureRecord | Refused]) -> None:
        self._lines, self.records = kept, kept.records
        self.images = {number: _atoms(line, inputs[number]) for number, line in kept.kept.items()}

    def add(self, number: int, record: dict[str, Any], atoms: ase.Atoms) -> None:
        """Note a structure; what this has returned from outlives the process."""
        self.images[number] = atoms
        self._lines.add(number, record, _line(atoms))


@contextmanager
def open_journal(
    path: Path, identity: Mapping[str, Any], inputs: Sequence[StructureRecord | Refused], resume: bool
) -> Iterator[Journal]:
    """A journal to which relaxed structures are added; raises as that of `cli/simulate/journal.py`."""
    with lines.open_journal(path, identity, resume) as kept:
        yield Journal(kept, inputs)


def _line(atoms: ase.Atoms) -> dict[str, Any]:
    kept = {key: atoms.info[key] for key in ("energy_std", "stress_std") if key in atoms.info}
    results = {**atoms.calc.results, **kept}
    if "forces_std" in atoms.arrays:
        results["forces_std"] = atoms.arrays["forces_std"]
    return {
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
