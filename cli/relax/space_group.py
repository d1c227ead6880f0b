"""The space group of a crystal, found by moyo."""

from __future__ import annotations

import ase
from moyopy import SpaceGroupType

from atomsml.simulate.symmetry import find_symmetry

TOLERANCE = 0.01  # A: atoms that lie so close to where an operation takes others are taken to lie there


def space_group(atoms: ase.Atoms) -> str | None:
    """Its short Hermann-Mauguin symbol and number, as in "Fm-3m (225)".

    None for atoms that are not periodic along all three axes, and where moyo finds nothing that is consistent.
    """
    if not atoms.pbc.all():
        return None
    try:
        number = find_symmetry(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, TOLERANCE).number
    except ValueError:
        return None
    return f"{SpaceGroupType(number).hm_short.replace(' ', '')} ({number})"
