"""What the compiled sums add up for each atom, in atomic units and the axes of the lattice.

| column | what |
|---|---|
| ENERGY | energy |
| SLOPE | its derivative by the coordination number |
| GRADIENT, and two more | its derivative by the position |
| STRAIN, and five more | its derivative by strain: xx xy xz yy yz zz, a share of that of the system |
"""

from __future__ import annotations

from atomsml.codegen.loops import Floats, compiled

ENERGY, SLOPE, GRADIENT, STRAIN, COLUMNS = 0, 1, 2, 5, 11


@compiled
def add_pull(i: int, j: int, pull: float, x: float, y: float, z: float, out: Floats) -> None:
    """What an energy whose slope by r, over r, is `pull` adds to its gradient and its derivative by strain."""
    m, n = COLUMNS * i, COLUMNS * j
    out[m + GRADIENT] -= pull * x
    out[m + GRADIENT + 1] -= pull * y
    out[m + GRADIENT + 2] -= pull * z
    out[n + GRADIENT] += pull * x
    out[n + GRADIENT + 1] += pull * y
    out[n + GRADIENT + 2] += pull * z
    out[m + STRAIN] += pull * x * x
    out[m + STRAIN + 1] += pull * x * y
    out[m + STRAIN + 2] += pull * x * z
    out[m + STRAIN + 3] += pull * y * y
    out[m + STRAIN + 4] += pull * y * z
    out[m + STRAIN + 5] += pull * z * z
