"""Energies to which others are referred: of elements and compounds, relaxed by the same model, or from a table.

Energies of different models, or of a model and of DFT, have different zeros: differences between them mean nothing.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
from pymatgen.core import Composition

from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start, minima


@dataclass(frozen=True)
class Reference:
    """A phase of known energy."""

    name: str  # where it comes from
    amounts: Mapping[str, float]  # atoms of each element
    energy: float  # eV, of all of these

    @property
    def per_atom(self) -> float:
        """eV/atom."""
        return self.energy / sum(self.amounts.values())


def relaxed_references(structures: Mapping[str, ase.Atoms], engine: Engine, start: Start) -> list[Reference]:
    """References of structures by their names: crystals with their cells, molecules without.

    Raises:
        ValueError: a structure that is neither, or that finds no minimum; names it.
    """
    for name, atoms in structures.items():
        if atoms.pbc.any() and not atoms.pbc.all():
            raise ValueError(f"the reference {name} is neither a crystal nor a molecule, pbc is {atoms.pbc.tolist()}")
    found = []
    for crystals in (True, False):
        some = {name: atoms for name, atoms in structures.items() if atoms.pbc.all() == crystals}
        names, own = list(some), Start(start.fmax, start.steps, cell=crystals, relax=start.relax)
        for index, minimum in minima(list(some.values()), engine, own):
            if isinstance(minimum, Failure):
                raise ValueError(f"the reference {names[index]} {minimum.reason}")
            amounts = {element: float(number) for element, number in minimum.symbols.formula.count().items()}
            found.append(Reference(names[index], amounts, float(minimum.get_potential_energy())))
    return found


def elemental(references: Iterable[Reference]) -> dict[str, float]:
    """eV/atom of each element, of the lowest of its references."""
    lowest = dict[str, float]()
    for each in references:
        if len(each.amounts) == 1:
            [element] = each.amounts
            lowest[element] = min(each.per_atom, lowest.get(element, math.inf))
    return lowest


def require_elements(elements: Iterable[str], known: Iterable[str]) -> None:
    """Refuse elements of which there is no reference.

    Raises:
        ValueError: names them.
    """
    missing = sorted(set(elements) - set(known))
    if missing:
        raise ValueError(f"there is no reference of the element {' or '.join(missing)}; give a structure of it")


def read_table(path: Path) -> list[Reference]:
    """References of a CSV with the columns composition and energy, or of a JSON object {composition: energy}.

    Energies are eV of the composition as it is written: of Na4Cl4 four times that of NaCl.

    Raises:
        ValueError: another content, names the entry.
    """
    try:
        text = path.read_text(encoding="utf-8")
        entries = _json_entries(text) if path.suffix == ".json" else _csv_entries(text)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError, KeyError):
        raise ValueError(
            f"{path} is no table of references; it needs the columns composition and energy, or JSON as "
            '{"NaCl": -6.8, ...} in eV of each composition'
        ) from None
    return [_reference(path, composition, energy) for composition, energy in entries]


def is_table(path: Path) -> bool:
    """Whether a file is a table of energies and no structure."""
    if path.suffix == ".csv":
        return True
    return path.suffix == ".json" and _is_flat(path)


def _is_flat(path: Path) -> bool:
    """JSON of numbers, as structures are not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and all(isinstance(value, int | float) for value in content.values())


def _json_entries(text: str) -> Sequence[tuple[str, object]]:
    return list(json.loads(text).items())


def _csv_entries(text: str) -> Sequence[tuple[str, object]]:
    return [(row["composition"], row["energy"]) for row in csv.DictReader(text.splitlines())]


def _reference(path: Path, composition: str, energy: object) -> Reference:
    try:
        amounts = {str(element): float(amount) for element, amount in Composition(composition, strict=True).items()}
        value = float(energy)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path}: {composition!r}, {energy!r} is no composition with an energy in eV") from None
    if not amounts or not math.isfinite(value):
        raise ValueError(f"{path}: {composition!r}, {energy!r} is no composition with an energy in eV")
    return Reference(f"{path.name}: {composition}", amounts, value)
