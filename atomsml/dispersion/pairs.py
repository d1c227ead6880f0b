"""The two-body energy of D3, and its derivatives, summed over all images of all pairs: compiled, without lists.

E = - sum over pairs of s6 C6 / (r^6 + f^6) + s8 C8 / (r^8 + f^8), with C8 = 3 C6 sqrt(Q_i Q_j) and
f = a1 sqrt(C8 / C6) + a2: S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011), equations 5 and 6. All
images of a pair have one C6, so that what is summed over images knows no coordination number.
"""

from __future__ import annotations

from typing import NamedTuple

from atomsml.codegen.loops import Floats, compiled, fused
from atomsml.dispersion.coefficients import Mixture, coefficient
from atomsml.dispersion.lattice import LANES, Atoms, images_of_block
from atomsml.dispersion.pulls import COLUMNS, ENERGY, OF_LANES, SLOPE, add_lanes, add_pull, clear


class DampingTables(NamedTuple):
    """Addresses of s8 C8 / C6, f^6 and f^8 of pairs of kinds, (kinds, kinds) each."""

    s6: float
    s8: Floats
    f6: Floats
    f8: Floats


@compiled
def disperse(
    w: Atoms,
    m: Mixture,
    p: DampingTables,
    cutoff: float,
    begin: int,
    step: int,
    found: Floats,
    lanes: Floats,
    out: Floats,
) -> None:
    """Add to `out` (`pulls.py`) what atoms begin, begin + step, ... have with those before them in their systems.

    `lanes` is room for OF_LANES and 3 LANES numbers.
    """
    i = begin
    while i < w.atoms:
        for block in range(w.block[w.first[w.system[i]]], w.block[i] + 1):
            clear(lanes)
            first, last = w.first_of_block[block], w.first_of_block[block + 1]
            for lane in range(LANES):
                kinds = w.kind[i] * w.kinds + w.kind[min(first + lane, last - 1)]
                lanes[OF_LANES + lane] = p.f6[kinds]
                lanes[OF_LANES + LANES + lane] = p.f8[kinds]
                lanes[OF_LANES + 2 * LANES + lane] = p.s8[kinds]
            for n in range(images_of_block(w, i, block, cutoff, found)):
                x, y, z = found[4 * n], found[4 * n + 1], found[4 * n + 2]
                disperse_lanes(x, y, z, w.local, 3 * LANES * block, p.s6, cutoff * cutoff, lanes)
            for j in range(first, min(i + 1, last)):
                add_pair(w, m, i, j, j - first, lanes, out)
        i += step


@fused
def disperse_lanes(
    x: float, y: float, z: float, local: Floats, start: int, s6: float, square: float, lanes: Floats
) -> None:
    """Add the energies over -C6, and their pulls, of a block whose centre is x, y, z away."""
    for m in range(LANES):
        dx, dy, dz = local[start + m] + x, local[start + LANES + m] + y, local[start + 2 * LANES + m] + z
        r2 = dx * dx + dy * dy + dz * dz
        r4 = r2 * r2
        a, b = r4 * r2 + lanes[OF_LANES + m], r4 * r4 + lanes[OF_LANES + LANES + m]
        s8 = lanes[OF_LANES + 2 * LANES + m]
        inverse = 1.0 / (a * b)
        t6, t8 = b * inverse, a * inverse
        value = s6 * t6 + s8 * t8
        pull = r4 * (6.0 * s6 * t6 * t6 + 8.0 * s8 * r2 * t8 * t8)
        inside = (r2 <= square) & (r2 > 0.0)
        lanes[m] += value if inside else 0.0
        add_pull(m, pull if inside else 0.0, dx, dy, dz, lanes)


@compiled
def add_pair(w: Atoms, m: Mixture, i: int, j: int, lane: int, lanes: Floats, out: Floats) -> None:
    """What all images of a pair have in common, and what they add."""
    weight = 1.0 if j < i else 0.5  # an image and its opposite are one pair
    c6 = weight * coefficient(m.mixed, m.weights, w.kinds, i, j, w.kind[j])
    total = weight * lanes[lane]
    out[COLUMNS * i + ENERGY] -= 0.5 * c6 * lanes[lane]
    out[COLUMNS * j + ENERGY] -= 0.5 * c6 * lanes[lane]
    out[COLUMNS * i + SLOPE] -= total * coefficient(m.mixed_slopes, m.weights, w.kinds, i, j, w.kind[j])
    out[COLUMNS * j + SLOPE] -= total * coefficient(m.mixed, m.weight_slopes, w.kinds, i, j, w.kind[j])
    add_lanes(i, j, lane, c6, lanes, out)
