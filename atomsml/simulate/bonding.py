"""Whether a simulation made or broke bonds.

A relaxation that does is right, but of another substance: a proton moved, a ring opened. Energies before and after then
differ by a reaction energy, for which few potentials were made.
"""

from __future__ import annotations

import ase

from atomsml.io import bond_graph

# times the sum of the covalent radii, on both sides of the 1.3 at which RDKit draws the line: a pair must cross the
# whole band, so that long bonds and close contacts do not count as broken and made
BONDED, APART = 1.2, 1.45
NONMETALS = frozenset([1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 51, 52, 53, 54])


def changed_bonds(before: ase.Atoms, after: ase.Atoms) -> frozenset[tuple[int, int]] | None:
    """Pairs of atoms that were bonded before and are apart after, or the other way round.

    None where distances do not say what is bonded: periodic systems, and metals.
    """
    if before.pbc.any() or not NONMETALS.issuperset(before.numbers.tolist()):
        return None
    broken = bond_graph(before, BONDED) - bond_graph(after, APART)
    made = bond_graph(after, BONDED) - bond_graph(before, APART)
    return broken | made


def bonding_changed(before: ase.Atoms, after: ase.Atoms) -> bool | None:
    """Whether there are `changed_bonds`, where distances say so."""
    changed = changed_bonds(before, after)
    return None if changed is None else bool(changed)
