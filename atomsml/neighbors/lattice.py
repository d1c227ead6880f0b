"""Lattices as compiled loops: completed where axes are open, and inverted.

`geometry.periodic_lattice` does the same in torch, where a handful of operations take longer than all neighbours of a
molecule.
"""

from __future__ import annotations

from math import inf, sqrt

from atomsml.codegen.loops import Bools, Floats, compiled


@compiled
def complete_lattice(cell: Floats, pbc: Bools, s: int, lattice: Floats) -> bool:
    """The cell of system s with unit vectors along open axes, orthogonal to the others; False if it is not finite."""
    first = 0  # a periodic axis, if there is one
    for k in range(3):
        first = 2 - k if pbc[3 * s + 2 - k] else first
        for n in range(9 * s + 3 * k, 9 * s + 3 * k + 3):
            if not abs(cell[n]) < inf:
                return False
            lattice[n] = cell[n] if pbc[3 * s + k] else 0.0
    row = 9 * s + 3 * first
    if not pbc[3 * s + first]:
        lattice[row] = 1.0
    second = (first + 1) % 3
    if not pbc[3 * s + second]:
        least = 0  # the Cartesian axis least parallel to the first vector
        for d in range(1, 3):
            least = d if abs(lattice[row + d]) < abs(lattice[row + least]) else least
        lattice[9 * s + 3 * second + least] = 1.0
    for n in range(3):
        k = (first + 2 - n) % 3
        if not pbc[3 * s + k]:
            x, y, z = cross(lattice, s, k, 0), cross(lattice, s, k, 1), cross(lattice, s, k, 2)
            length, row = sqrt(x * x + y * y + z * z), 9 * s + 3 * k
            lattice[row], lattice[row + 1], lattice[row + 2] = x / length, y / length, z / length
    return True


@compiled
def cross(lattice: Floats, s: int, k: int, d: int) -> float:
    """Component d of the vector product of the two lattice vectors after vector k."""
    u, v = 9 * s + 3 * ((k + 1) % 3), 9 * s + 3 * ((k + 2) % 3)
    e, f = (d + 1) % 3, (d + 2) % 3
    return lattice[u + e] * lattice[v + f] - lattice[u + f] * lattice[v + e]


@compiled
def invert(lattice: Floats, s: int, inverse: Floats) -> bool:
    """Columns of the inverse are reciprocal vectors, without the 2 pi; False if the vectors lie almost in a plane."""
    determinant, lengths = 0.0, 1.0
    for k in range(3):
        x, y, z = lattice[9 * s + 3 * k], lattice[9 * s + 3 * k + 1], lattice[9 * s + 3 * k + 2]
        lengths *= sqrt(x * x + y * y + z * z)
        determinant += lattice[9 * s + k] * cross(lattice, s, 0, k)
    for k in range(3):
        for d in range(3):
            inverse[9 * s + 3 * d + k] = cross(lattice, s, k, d) / determinant
    return abs(determinant) > 1e-8 * lengths
