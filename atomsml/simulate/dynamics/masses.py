"""Heavier hydrogen, for longer time steps."""

from __future__ import annotations

import ase
import numpy as np
from ase.neighborlist import natural_cutoffs, neighbor_list

REACH = 1.3  # times the sum of the covalent radii, within which atoms are bonded


def repartition_masses(atoms: ase.Atoms, hydrogen: float = 3.024) -> ase.Atoms:
    """A copy in which mass has moved from heavy atoms to the hydrogen that is bonded to them, up to `hydrogen` u each.

    Feenstra, Hess, Berendsen, J. Comput. Chem. 20, 786 (1999). The total mass stays, and so do all averages of
    positions: masses are no part of them. The fastest motions slow down, so that time steps may be half as long again;
    rates of motion, as diffusion and vibrations, are those of other masses. Hydrogen without a heavy neighbour stays as
    it is. Momenta are left out.

    Raises:
        ValueError: a heavy atom would become lighter than its hydrogen.
    """
    copy = atoms.copy()
    masses = atoms.get_masses()
    centre, neighbor, distance = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=REACH))
    bonded = (atoms.numbers[centre] == 1) & (atoms.numbers[neighbor] != 1)
    order = np.flatnonzero(bonded)[np.argsort(distance[bonded], kind="stable")]
    light, nearest = np.unique(centre[order], return_index=True)
    heavy = neighbor[order][nearest]
    moved = np.maximum(hydrogen - masses[light], 0)
    masses[light] += moved
    np.subtract.at(masses, heavy, moved)
    if len(heavy) and masses[heavy].min() < hydrogen:
        worst = heavy[masses[heavy].argmin()]
        raise ValueError(
            f"atom {worst}, {atoms.symbols[worst]}, would have {masses[worst]:.2f} u, less than its hydrogen of "
            f"{hydrogen:g} u; ask for lighter hydrogen"
        )
    copy.set_masses(masses)
    copy.set_array("momenta", None)
    return copy
