"""Which keys the structures of a file carry, counted before it is decided which of them are the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from atomsml.dataset.labels import PREFIXES, STEMS, LabelKeys
from atomsml.electronic_state import ElectronicState, state_of_fields

NAMES_OF = {label: tuple(p + stem for p in PREFIXES for stem in stems) for label, stems in STEMS.items()}
LABEL_NAMES = frozenset(name for names in NAMES_OF.values() for name in names)
SAME_ENERGY = 1e-3  # eV: an energy and a free energy that differ by less are the same
COLUMN = object()  # stands for a column of numbers that has not been read


class Census:
    """Counts over structures: of each key, of labels that occur together, of free energies, of charges and spins.

    A structure does not carry what is NaN there: a key may be present on 0 structures.

    Args:
        asked: what the user says of the keys.
    """

    def __init__(self, asked: LabelKeys) -> None:
        self._asked = asked
        self._names = LABEL_NAMES.union(filter(None, vars(asked).values()))
        self.structures = 0
        self.present: Counter[str] = Counter()
        self.states: Counter[ElectronicState] = Counter()
        self._together: Counter[frozenset[str]] = Counter()
        self._free: dict[str, tuple[int, float]] = {}  # by the key of the energy: structures, largest difference in eV

    def add(self, fields: Mapping[str, Any]) -> None:
        """One structure, with what a file says about it."""
        there = {name for name, value in fields.items() if _is_there(value)}
        self.structures += 1
        self.states[state_of_fields(fields)] += 1
        self.present.update({name: int(name in there) for name, value in fields.items() if value is not None})
        self._together[frozenset(name for name in there & self._names if not _is_word(fields[name]))] += 1
        for prefix in PREFIXES:
            energy, free = _number(fields.get(f"{prefix}energy")), _number(fields.get(f"{prefix}free_energy"))
            if abs(energy - free) > SAME_ENERGY:
                count, largest = self._free.get(f"{prefix}energy", (0, 0.0))
                self._free[f"{prefix}energy"] = (count + 1, max(largest, abs(energy - free)))

    def warnings(self, keys: LabelKeys) -> Iterator[str]:
        """Labels that are there and not used because other structures have them under the key in `keys`."""
        chosen = {"energy": keys.energy, "forces": keys.forces, "stress": keys.stress or keys.virial}
        for label, key in chosen.items():
            names = {*NAMES_OF[label], *(NAMES_OF["virial"] if label == "stress" else ())}
            lost: Counter[str] = Counter()
            for together, count in self._together.items():
                if key and key not in together:
                    lost.update(dict.fromkeys(together & names, count))
            for name, count in sorted(lost.items()):
                yield (
                    f"{count} structures without {key} carry {name}, which is not used; give all structures the same "
                    f"key, or read them from two files, one with --{label}-key {name}"
                )
        if keys.energy in self._free and self._asked.energy is None:
            count, largest = self._free[keys.energy]
            free = keys.energy.replace("energy", "free_energy")
            yield (
                f"on {count} structures {keys.energy} and {free} differ, by up to {largest:.3g} eV; forces of a "
                f"calculation with smearing belong to the free energy: --energy-key {free} takes that"
            )


def _is_there(value: Any) -> bool:
    if value is None:
        return False
    array = np.asarray(value) if isinstance(value, float | np.ndarray | np.floating | list) else None
    return array is None or array.dtype.kind != "f" or array.size == 0 or not bool(np.isnan(array).all())


def _is_word(value: Any) -> bool:
    """Whether a key stands in a file without a value, which readers take for True."""
    return isinstance(value, bool | np.bool_)


def _number(value: Any) -> float:
    """A single number; NaN for what is none."""
    return float(value) if isinstance(value, int | float | np.number) and not _is_word(value) else np.nan
