"""Formulas that no neutral, connected molecule with paired electrons has.

N atoms that hang together need N - 1 bonds, so that valences must add up to 2 (N - 1) at least. In terms of the degree
of unsaturation, which counts rings and double bonds, that is 1 + sum_i (v_i - 2) / 2 >= 0 with the largest valence v
that an element has. An odd number of electrons leaves one unpaired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from atomsml.generative.molecules.compositions import Formula, format_formula

# The largest valence in neutral molecules. Charges inside a molecule add nothing: N+ has one bond more, and O- or C-
# one less. Boron and aluminium take a lone pair of N or O: one bond more on both sides is counted as theirs. Elements
# that are not listed are not judged.
LARGEST_VALENCE = {
    1: 1, 2: 0, 3: 1, 4: 2, 5: 5, 6: 4, 7: 3, 8: 2, 9: 1, 10: 0, 11: 1, 12: 2, 13: 5, 14: 6, 15: 5, 16: 6, 17: 7,
    18: 0, 33: 5, 34: 6, 35: 7, 53: 7,
}  # fmt: skip


def check_formula(formula: Formula) -> None:
    """Refuse a formula that no such molecule has.

    Raises:
        ValueError: an odd number of electrons, or too few valences to hold the atoms together.
    """
    name = format_formula(formula)
    electrons = sum(z * count for z, count in formula.items())
    if electrons % 2:
        raise ValueError(
            f"{name} has {electrons} electrons, an odd number: neutral molecules with paired electrons have an even "
            "one; add or remove a hydrogen"
        )
    if not set(formula) <= set(LARGEST_VALENCE):
        return
    atoms = sum(formula.values())
    bonds = sum(LARGEST_VALENCE[z] * count for z, count in formula.items()) / 2
    if bonds < atoms - 1:
        raise ValueError(
            f"{name} cannot be one molecule: its {atoms} atoms need {atoms - 1} bonds to hang together, their valences "
            f"make {bonds:g} at most; ask for less hydrogen or halogen"
        )


def spare_places(formulas: np.ndarray, elements: Sequence[int], held: Mapping[int, int], hydrogens: int) -> np.ndarray:
    """(formulas,) places for hydrogens that stay free in a molecule that contains a scaffold; negative: too few.

    A heavy atom of valence v that is attached takes the place of one hydrogen and brings v - 1.

    Args:
        formulas: (formulas, elements) counts.
        held: how many atoms of each element the scaffold has.
        hydrogens: how many hydrogens the scaffold may carry.
    """
    brings = np.array([-1 if z == 1 else LARGEST_VALENCE.get(z, 4) - 2 for z in elements])
    return hydrogens + (formulas - [held.get(z, 0) for z in elements]) @ brings
