"""Which atoms are meant: by number, element or region, as in "0-3,7", "Si" or "z<4.0".

A selection is a list of terms with commas between them, and means the atoms that any of them means.

| term | the atoms |
|---|---|
| `7`, `0-3` | with these numbers, counted from 0, the last included |
| `Si` | of this element |
| `z<4.0`, `x>=2`, `1<y<3` | in this region, by Cartesian coordinates in A |
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

import ase
import numpy as np
from ase.constraints import FixAtoms
from ase.data import atomic_numbers

NUMBERS = re.compile(r"(\d+)(?:-(\d+))?")
BOUND, COMPARED = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", r"<=|>=|<|>"
REGION = re.compile(rf"(?:({BOUND})({COMPARED}))?([xyz])(?:({COMPARED})({BOUND}))?")
COMPARISONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}  # of "1<y", which says y>1


@dataclass(frozen=True)
class Selection:
    """Atoms of any structure, by the words described above.

        >>> from ase.build import molecule
        >>> Selection("O,2").of(molecule("CH3OH")).tolist()
        [1, 2]

    Raises:
        ValueError: a term that is none of these.
    """

    words: str

    def __post_init__(self) -> None:
        for term in self._terms:
            numbers = NUMBERS.fullmatch(term)
            backwards = numbers and numbers[2] and int(numbers[1]) > int(numbers[2])
            if backwards or not (numbers or _is_element(term) or _is_region(term)):
                raise ValueError(
                    f"cannot tell which atoms {term!r} means; name numbers as in 0-3,7, an element as in Si, "
                    "or a region as in 'z<4.0'"
                )

    @property
    def _terms(self) -> list[str]:
        return ["".join(term.split()) for term in self.words.split(",")]

    def of(self, atoms: ase.Atoms) -> np.ndarray:
        """Their numbers, ascending.

        Raises:
            ValueError: a number that no atom has, or no atom at all.
        """
        chosen = np.zeros(len(atoms), dtype=bool)
        for term in self._terms:
            chosen |= _mask(term, atoms)
        if not chosen.any():
            raise ValueError(f"no atom is meant by {self.words!r}")
        return np.flatnonzero(chosen)

    def hold(self, atoms: ase.Atoms) -> None:
        """Let these atoms stay where they are, beside those that other constraints hold.

        Raises:
            ValueError: as `of`, or no atom is left to move.
        """
        chosen = self.of(atoms)
        if len(chosen) == len(atoms):
            raise ValueError(f"every atom is held by {self.words!r}; none is left to move")
        atoms.set_constraint([*atoms.constraints, FixAtoms(chosen)])


def _is_element(term: str) -> bool:
    return term in atomic_numbers and term != "X"


def _is_region(term: str) -> bool:
    found = REGION.fullmatch(term)
    return found is not None and (found[1] is not None or found[5] is not None)


def _mask(term: str, atoms: ase.Atoms) -> np.ndarray:
    """Which atoms one term means, bool (atoms,)."""
    mask = np.zeros(len(atoms), dtype=bool)
    if found := NUMBERS.fullmatch(term):
        last = int(found[2] or found[1])
        if last >= len(atoms):
            raise ValueError(f"there is no atom {last}; its {len(atoms)} atoms are counted from 0")
        mask[int(found[1]) : last + 1] = True
    elif _is_element(term):
        mask = atoms.numbers == atomic_numbers[term]
    else:
        found = REGION.fullmatch(term)
        assert found is not None
        along = atoms.positions[:, "xyz".index(found[3])]
        mask[:] = True
        if found[1] is not None:
            mask &= COMPARISONS[MIRRORED[found[2]]](along, float(found[1]))
        if found[5] is not None:
            mask &= COMPARISONS[found[4]](along, float(found[5]))
    return mask
