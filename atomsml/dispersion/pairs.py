"""The two-body energy of D3, and its derivatives, summed over all images of all pairs: compiled, without lists.

E = - sum over pairs of s6 C6 / (r^6 + f^6) + s8 C8 / (r^8 + f^8), with C8 = 3 C6 sqrt(Q_i Q_j) and
f = a1 sqrt(C8 / C6) + a2: S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011), equations 5 and 6. All
images of a pair have one C6, so that what is summed over images knows no coordination number.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from atomsml.codegen.loops import Floats, compiled
from atomsml.dispersion.coefficients import Mixture, coefficient
from atomsml.dispersion.lattice import Atoms, images
from atomsml.dispersion.pulls import COLUMNS, ENERGY, SLOPE, add_pull


class DampingArguments(NamedTuple):
    """Of `functionals.Damping`."""

    s6: float
    s8: float
    a1: float
    a2: float


@compiled
def disperse(
    w: Atoms,
    m: Mixture,
    p: DampingArguments,
    sqrt_q: Floats,
    cutoff: float,
    begin: int,
    step: int,
    found: Floats,
    out: Floats,
) -> None:
    """Add to `out` (`pulls.py`) what atoms begin, begin + step, ... have with those before them in their systems."""
    i = begin
    while i < w.atoms:
        for j in range(w.first[w.system[i]], i + 1):
            weight = 1.0 if j < i else 0.5  # an image and its opposite are one pair
            c6 = weight * coefficient(m.mixed, m.weights, w.kinds, i, j, w.kind[j])
            ratio = 3.0 * sqrt_q[w.kind[i]] * sqrt_q[w.kind[j]]
            f = p.a1 * sqrt(ratio) + p.a2
            f6 = f * f * f * f * f * f
            f8 = f6 * f * f
            s8 = p.s8 * ratio
            total = 0.0
            for n in range(images(w, i, j, cutoff, found)):
                r2 = found[4 * n + 3]
                r4 = r2 * r2
                a, b = r4 * r2 + f6, r4 * r4 + f8
                inverse = 1.0 / (a * b)
                t6, t8 = b * inverse, a * inverse
                total += p.s6 * t6 + s8 * t8
                pull = c6 * r4 * (6.0 * p.s6 * t6 * t6 + 8.0 * s8 * r2 * t8 * t8)
                add_pull(i, j, pull, found[4 * n], found[4 * n + 1], found[4 * n + 2], out)
            out[COLUMNS * i + ENERGY] -= 0.5 * c6 * total
            out[COLUMNS * j + ENERGY] -= 0.5 * c6 * total
            by_i = coefficient(m.mixed_slopes, m.weights, w.kinds, i, j, w.kind[j])
            by_j = coefficient(m.mixed, m.weight_slopes, w.kinds, i, j, w.kind[j])
            out[COLUMNS * i + SLOPE] -= weight * total * by_i
            out[COLUMNS * j + SLOPE] -= weight * total * by_j
        i += step
