"""What became of something that was put on a surface: whether it is there, in one piece, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.data import covalent_radii
from ase.geometry import get_distances

from atomsml.properties.surfaces.sites import AdsorptionSite, standing
from atomsml.simulate.bonding import APART, bonding_changed

RECONSTRUCTED = 1.0  # A: an atom of the slab that moves farther is told


@dataclass(frozen=True)
class Outcome:
    """Of a relaxation."""

    converged: bool
    nearest: float  # A, the shortest distance to an atom of the slab
    bonded: bool  # some atom of it is so near to one of the slab that they are bonded
    whole: bool | None  # its own bonds are what they were; None where distances do not tell, as between metals
    site: str  # kind of the site where it is
    moved: bool  # it is on another site than that where it was put
    slab_moved: float  # A, how far an atom of the slab moved at most
    reason: str = ""  # why there is no minimum

    @property
    def notes(self) -> list[str]:
        """What is to be told."""
        if not self.converged:
            return [self.reason]
        notes = []
        if not self.bonded:
            notes.append(f"not bonded to the slab, of which the nearest atom is {self.nearest:.2f} A away")
        if self.whole is False:
            notes.append("bonds in it were broken or made: the energy is that of a reaction")
        if self.moved and self.bonded:
            notes.append(f"moved to another site ({self.site})")
        if self.slab_moved > RECONSTRUCTED:
            notes.append(f"an atom of the slab moved by {self.slab_moved:.1f} A: the surface is another one")
        return notes


def outcome_of(
    start: ase.Atoms, atoms: ase.Atoms, adsorbed: int, sites: Sequence[AdsorptionSite], cell: np.ndarray, reason: str
) -> Outcome:
    """
    Args:
        start, atoms: before and after the relaxation; the last `adsorbed` atoms were put on the slab.
        sites: all of the slab that was repeated, whose lattice vectors are `cell`.
        reason: why `atoms` are at no minimum; none where they are.
    """
    own, slab = atoms[-adsorbed:], atoms[:-adsorbed]
    distances = get_distances(own.positions, slab.positions, cell=atoms.cell, pbc=[True, True, False])[1]
    bonds = covalent_radii[own.numbers][:, None] + covalent_radii[slab.numbers]
    before, after = (_free(each[-adsorbed:]) for each in (start, atoms))
    feet = standing(before)
    stood, stands = (each.positions[feet].mean(axis=0) for each in (before, after))
    first, last = _site(stood, sites, cell), _site(stands, sites, cell)
    hopped = (
        AdsorptionSite("", 0, stood).distance(stands, atoms.cell.array) > np.linalg.norm(cell[:2], axis=1).min() / 2
    )
    changed = bonding_changed(before, after)
    moved = np.linalg.norm(atoms.positions[:-adsorbed] - start.positions[:-adsorbed], axis=1)
    return Outcome(
        converged=not reason,
        nearest=float(distances.min()),
        bonded=bool((distances < APART * bonds).any()),
        whole=None if changed is None else not changed,
        site=sites[last].kind,
        moved=first != last or bool(hopped),
        slab_moved=float(moved.max()),
        reason=reason,
    )


def _site(position: np.ndarray, sites: Sequence[AdsorptionSite], cell: np.ndarray) -> int:
    """Which is nearest."""
    return int(np.argmin([site.distance(position, cell) for site in sites]))


def _free(atoms: ase.Atoms) -> ase.Atoms:
    """Without a cell."""
    return ase.Atoms(atoms.numbers, atoms.positions)
