"""Coordination numbers, compiled: of how many bonds an atom has, and the forces that follow from an energy by them.

CN of an atom is the sum over all others, and their images, of 1 / (1 + exp(-16 (R / r - 1))), R the sum of the radii of
the two, each 4/3 of a covalent one: S. Grimme et al., J. Chem. Phys. 132, 154104 (2010), equation 15. It does not
vanish at large distances, where it is exp(-16): a crystal has some 1e-4 from there, within 40 bohr.
"""

from __future__ import annotations

from math import sqrt

from atomsml.codegen.loops import Floats, compiled
from atomsml.dispersion.exponential import exponential
from atomsml.dispersion.lattice import Atoms, images
from atomsml.dispersion.pulls import add_pull

STEEPNESS = 16.0


@compiled
def coordinate(
    w: Atoms, covalent: Floats, table: Floats, cutoff: float, begin: int, step: int, found: Floats, numbers: Floats
) -> None:
    """Add to (atoms,) numbers what atoms begin, begin + step, ... and those before them in their systems share."""
    i = begin
    while i < w.atoms:
        for j in range(w.first[w.system[i]], i + 1):
            radius = covalent[w.kind[i]] + covalent[w.kind[j]]
            shared = 0.0
            for n in range(images(w, i, j, cutoff, found)):
                shared += 1.0 / (1.0 + exponential(STEEPNESS - STEEPNESS * radius / sqrt(found[4 * n + 3]), table))
            numbers[i] += shared
            if j < i:
                numbers[j] += shared
        i += step


@compiled
def coordinate_backward(
    w: Atoms,
    covalent: Floats,
    table: Floats,
    cutoff: float,
    begin: int,
    step: int,
    found: Floats,
    slope: Floats,
    out: Floats,
) -> None:
    """The same of derivatives: `slope` (atoms,) is that of an energy by coordination numbers.

    `out` is described in `pulls.py`.
    """
    i = begin
    while i < w.atoms:
        for j in range(w.first[w.system[i]], i + 1):
            radius = covalent[w.kind[i]] + covalent[w.kind[j]]
            weight = (slope[i] + slope[j] if j < i else slope[i]) * STEEPNESS * radius
            for n in range(images(w, i, j, cutoff, found)):
                square = found[4 * n + 3]
                r = sqrt(square)
                e = exponential(STEEPNESS - STEEPNESS * radius / r, table)
                # slope of the energy by r, over r
                pull = -weight * e / ((1.0 + e) * (1.0 + e) * square * r)
                add_pull(i, j, pull, found[4 * n], found[4 * n + 1], found[4 * n + 2], out)
        i += step
