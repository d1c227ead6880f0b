"""Coordination numbers, compiled: of how many bonds an atom has, and the forces that follow from an energy by them.

CN of an atom is the sum over all others, and their images, of 1 / (1 + exp(-16 (R / r - 1))), R the sum of the radii of
the two, each 4/3 of a covalent one: S. Grimme et al., J. Chem. Phys. 132, 154104 (2010), equation 15. It does not
vanish at large distances, where it is exp(-16): a crystal has some 1e-4 from there, within 40 bohr.
"""

from __future__ import annotations

from math import factorial, sqrt

from atomsml.codegen.loops import Floats, compiled, fused
from atomsml.dispersion.lattice import LANES, Atoms, images_of_block
from atomsml.dispersion.pulls import OF_LANES, add_lanes, add_pull, clear

STEEPNESS = 16.0
# exp(x) is the 64th power of the series of exp(x / 64), which is right to rounding up to x = STEEPNESS; below LEAST
# 1 + exp(x) is 1
LEAST, PART = -42.0, 1 / 64
C3, C4, C5, C6, C7, C8, C9, C10, C11, C12 = (1 / factorial(k) for k in range(3, 13))


@compiled
def coordinate(
    w: Atoms, covalent: Floats, cutoff: float, begin: int, step: int, found: Floats, lanes: Floats, numbers: Floats
) -> None:
    """Add to (atoms,) numbers what atoms begin, begin + step, ... and those before them in their systems share.

    `lanes` is room for OF_LANES and LANES numbers.
    """
    i = begin
    while i < w.atoms:
        for block in range(w.block[w.first[w.system[i]]], w.block[i] + 1):
            clear(lanes)
            first = w.first_of_block[block]
            set_radii(w, covalent, i, block, lanes)
            for n in range(images_of_block(w, i, block, cutoff, found)):
                x, y, z = found[4 * n], found[4 * n + 1], found[4 * n + 2]
                count_lanes(x, y, z, w.local, 3 * LANES * block, cutoff * cutoff, lanes)
            for j in range(first, min(i + 1, w.first_of_block[block + 1])):
                numbers[i] += lanes[j - first]
                if j < i:
                    numbers[j] += lanes[j - first]
        i += step


@compiled
def coordinate_backward(
    w: Atoms,
    covalent: Floats,
    cutoff: float,
    begin: int,
    step: int,
    found: Floats,
    lanes: Floats,
    slope: Floats,
    out: Floats,
) -> None:
    """The same of derivatives: `slope` (atoms,) is that of an energy by coordination numbers.

    `out` is described in `pulls.py`.
    """
    i = begin
    while i < w.atoms:
        for block in range(w.block[w.first[w.system[i]]], w.block[i] + 1):
            clear(lanes)
            first = w.first_of_block[block]
            set_radii(w, covalent, i, block, lanes)
            for n in range(images_of_block(w, i, block, cutoff, found)):
                x, y, z = found[4 * n], found[4 * n + 1], found[4 * n + 2]
                pull_lanes(x, y, z, w.local, 3 * LANES * block, cutoff * cutoff, lanes)
            for j in range(first, min(i + 1, w.first_of_block[block + 1])):
                weight = slope[i] + slope[j] if j < i else slope[i]
                add_lanes(i, j, j - first, weight, lanes, out)
        i += step


@compiled
def set_radii(w: Atoms, covalent: Floats, i: int, block: int, lanes: Floats) -> None:
    """Sums of the radii of atom i and those of a block, after what is summed."""
    first, last = w.first_of_block[block], w.first_of_block[block + 1]
    for m in range(LANES):
        lanes[OF_LANES + m] = STEEPNESS * (covalent[w.kind[i]] + covalent[w.kind[min(first + m, last - 1)]])


@fused
def count_lanes(x: float, y: float, z: float, local: Floats, start: int, square: float, lanes: Floats) -> None:
    """Add the counts of a block whose centre is x, y, z away."""
    for m in range(LANES):
        dx, dy, dz = local[start + m] + x, local[start + LANES + m] + y, local[start + 2 * LANES + m] + z
        r2 = dx * dx + dy * dy + dz * dz
        count = 1.0 / (1.0 + exponential(STEEPNESS - lanes[OF_LANES + m] / sqrt(r2)))
        inside = (r2 <= square) & (r2 > 0.0)
        lanes[m] += count if inside else 0.0


@fused
def pull_lanes(x: float, y: float, z: float, local: Floats, start: int, square: float, lanes: Floats) -> None:
    """Add their slopes by r, over r, times the vectors."""
    for m in range(LANES):
        dx, dy, dz = local[start + m] + x, local[start + LANES + m] + y, local[start + 2 * LANES + m] + z
        r2 = dx * dx + dy * dy + dz * dz
        r = sqrt(r2)
        e = exponential(STEEPNESS - lanes[OF_LANES + m] / r)
        pull = -lanes[OF_LANES + m] * e / ((1.0 + e) * (1.0 + e) * r2 * r)
        inside = (r2 <= square) & (r2 > 0.0)
        add_pull(m, pull if inside else 0.0, dx, dy, dz, lanes)


@fused
def exponential(x: float) -> float:
    """Of x up to STEEPNESS; that of LEAST below it."""
    u = PART * (x if x > LEAST else LEAST)
    e = ((((C12 * u + C11) * u + C10) * u + C9) * u + C8) * u + C7
    e = ((((((e * u + C6) * u + C5) * u + C4) * u + C3) * u + 0.5) * u + 1.0) * u + 1.0
    e2 = e * e
    e4 = e2 * e2
    e8 = e4 * e4
    e16 = e8 * e8
    e32 = e16 * e16
    return e32 * e32
