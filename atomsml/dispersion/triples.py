"""The three-body energy of D3, and its derivatives, compiled.

E = sum over triangles of C9 (1 + 3 cos a cos b cos c) / (r_ij r_ik r_jk)^3 / (1 + 6 (R / r)^16), where
C9 = sqrt(C6_ij C6_ik C6_jk), and R and r are geometric means of 4/3 of the cutoff radii and of the sides: S. Grimme et
al., J. Chem. Phys. 132, 154104 (2010), equations 11 to 14, with the positive sign of C9 and the exponent of s-dftd3.

A triangle is met at each of its corners. There its energy counts a third, a side half of its strain, and only what
follows from moving this corner and changing its coordination number is added.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from atomsml.codegen.loops import Floats, Ints, compiled
from atomsml.dispersion.coefficients import Mixture, coefficient
from atomsml.dispersion.lattice import Atoms, images
from atomsml.dispersion.pulls import COLUMNS, ENERGY, GRADIENT, SLOPE, STRAIN

SCALE = 4.0 / 3.0  # of the cutoff radii
NEAR = 7  # numbers about a neighbour: x, y, z, squared distance, C6 with the corner, its relative slope, radius


class Near(NamedTuple):
    """Addresses of room for neighbours of a corner, (room, NEAR), which atoms they are, and images."""

    about: Floats
    atom: Ints
    found: Floats
    room: int


@compiled
def disperse_triples(
    w: Atoms, m: Mixture, radii: Floats, cutoff: float, begin: int, step: int, near: Near, out: Floats
) -> int:
    """Add to `out` (`pulls.py`) what is met at the corners begin, begin + step, ...

    Returns the corner for whose neighbours there is no room, or the number of atoms when all is done.
    """
    i = begin
    while i < w.atoms:
        count = gather(w, m, radii, cutoff, i, near)
        if count < 0:
            return i
        for p in range(count):
            for q in range(p):
                add_triangle(w, m, radii, cutoff, i, p, q, near, out)
        i += step
    return w.atoms


@compiled
def gather(w: Atoms, m: Mixture, radii: Floats, cutoff: float, i: int, near: Near) -> int:
    """Write what must be known of all images around atom i; returns how many, or -1 without room."""
    count = 0
    for j in range(w.first[w.system[i]], w.first[w.system[i] + 1]):
        c6 = coefficient(m.mixed, m.weights, w.kinds, i, j, w.kind[j])
        slope = coefficient(m.mixed_slopes, m.weights, w.kinds, i, j, w.kind[j])
        x = w.positions[3 * j] - w.positions[3 * i]
        y = w.positions[3 * j + 1] - w.positions[3 * i + 1]
        z = w.positions[3 * j + 2] - w.positions[3 * i + 2]
        for n in range(images(w, w.system[i], x, y, z, cutoff, near.found)):
            if count == near.room:
                return -1
            k = NEAR * count
            for column in range(4):
                near.about[k + column] = near.found[4 * n + column]
            near.about[k + 4], near.about[k + 5] = c6, slope / c6
            near.about[k + 6] = SCALE * radii[w.kind[i] * w.kinds + w.kind[j]]
            near.atom[count] = j
            count += 1 if near.found[4 * n + 3] > 0.0 else 0  # an atom is no image of itself
    return count


@compiled
def add_triangle(
    w: Atoms, m: Mixture, radii: Floats, cutoff: float, i: int, p: int, q: int, near: Near, out: Floats
) -> None:
    u, v = NEAR * p, NEAR * q
    x, y, z, a = near.about[u], near.about[u + 1], near.about[u + 2], near.about[u + 3]
    s, t, r, b = near.about[v], near.about[v + 1], near.about[v + 2], near.about[v + 3]
    c = (x - s) * (x - s) + (y - t) * (y - t) + (z - r) * (z - r)
    if c <= cutoff * cutoff:
        j, k = near.atom[p], near.atom[q]
        c6 = coefficient(m.mixed, m.weights, w.kinds, j, k, w.kind[k])
        c9 = sqrt(near.about[u + 4] * near.about[v + 4] * c6)
        radius = near.about[u + 6] * near.about[v + 6] * SCALE * radii[w.kind[j] * w.kinds + w.kind[k]]
        square = a * b * c
        r1 = sqrt(square)
        ratio = radius / r1
        six = 6.0 * ratio * ratio * ratio * ratio * ratio * cube_root(ratio)
        damping = 1.0 / (1.0 + six)
        r3 = 1.0 / (square * r1)
        first, second, third = a + c - b, a - c + b, b + c - a
        angles = 0.375 * first * second * third / square
        shape = r3 * (angles + 1.0)
        energy = c9 * damping * shape
        # slopes by the squared sides a and b
        more = 8.0 / 3.0 * damping * six
        by_a = 0.375 * r3 / square * (second * third + first * third - first * second) - r3 * (2.5 * angles + 1.5) / a
        by_b = 0.375 * r3 / square * (first * second + first * third - second * third) - r3 * (2.5 * angles + 1.5) / b
        pull_a = 2.0 * c9 * damping * (by_a + shape * more / a)
        pull_b = 2.0 * c9 * damping * (by_b + shape * more / b)
        n = COLUMNS * i
        out[n + ENERGY] += energy / 3.0
        out[n + SLOPE] += 0.5 * energy * (near.about[u + 5] + near.about[v + 5])
        out[n + GRADIENT] -= pull_a * x + pull_b * s
        out[n + GRADIENT + 1] -= pull_a * y + pull_b * t
        out[n + GRADIENT + 2] -= pull_a * z + pull_b * r
        out[n + STRAIN] += 0.5 * (pull_a * x * x + pull_b * s * s)
        out[n + STRAIN + 1] += 0.5 * (pull_a * x * y + pull_b * s * t)
        out[n + STRAIN + 2] += 0.5 * (pull_a * x * z + pull_b * s * r)
        out[n + STRAIN + 3] += 0.5 * (pull_a * y * y + pull_b * t * t)
        out[n + STRAIN + 4] += 0.5 * (pull_a * y * z + pull_b * t * r)
        out[n + STRAIN + 5] += 0.5 * (pull_a * z * z + pull_b * r * r)


@compiled
def cube_root(x: float) -> float:
    """Of x > 0, by Halley's steps, each of which triples the digits that are right."""
    y = sqrt(sqrt(x))
    for _ in range(4):
        cube = y * y * y
        y *= (cube + 2.0 * x) / (2.0 * cube + x)
    return y
