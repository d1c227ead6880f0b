"""What the compiled sums add up for each atom, in atomic units and the axes of the lattice.

| column | what |
|---|---|
| ENERGY | energy |
| SLOPE | its derivative by the coordination number |
| GRADIENT, and two more | its derivative by the position |
| STRAIN, and five more | its derivative by strain: xx xy xz yy yz zz, a share of that of the system |
"""

from __future__ import annotations

from atomsml.codegen.loops import Floats, compiled, fused
from atomsml.dispersion.lattice import LANES

ENERGY, SLOPE, GRADIENT, STRAIN, COLUMNS = 0, 1, 2, 5, 11
# sums of the lanes of a block (columns of `lattice.py`): of values, of pulls times x, y, z and times xx xy xz yy yz zz,
# where a pull is the slope of an energy by a distance, over that distance
OF_LANES = 10 * LANES


@compiled
def clear(lanes: Floats) -> None:
    for m in range(OF_LANES):
        lanes[m] = 0.0


@fused
def add_pull(m: int, pull: float, x: float, y: float, z: float, lanes: Floats) -> None:
    """To the sums of lane m, of an image x, y, z away."""
    px, py, pz = pull * x, pull * y, pull * z
    lanes[LANES + m] += px
    lanes[2 * LANES + m] += py
    lanes[3 * LANES + m] += pz
    lanes[4 * LANES + m] += px * x
    lanes[5 * LANES + m] += px * y
    lanes[6 * LANES + m] += px * z
    lanes[7 * LANES + m] += py * y
    lanes[8 * LANES + m] += py * z
    lanes[9 * LANES + m] += pz * z


@compiled
def add_lanes(i: int, j: int, m: int, weight: float, lanes: Floats, out: Floats) -> None:
    """What lane m, which is atom j beside atom i, adds to gradients and to strain."""
    at_i, at_j = COLUMNS * i, COLUMNS * j
    for k in range(3):
        pull = weight * lanes[(1 + k) * LANES + m]
        out[at_i + GRADIENT + k] -= pull
        out[at_j + GRADIENT + k] += pull
    for k in range(6):
        out[at_i + STRAIN + k] += weight * lanes[(4 + k) * LANES + m]
