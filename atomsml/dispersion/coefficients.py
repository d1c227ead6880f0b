"""C6 of pairs of atoms from those of reference systems, compiled.

C6 of atoms i and j is the sum over their reference systems a and b of w_ia w_jb C6_ab, where the weights of an atom are
exp(-4 (CN - CN_a)^2) over their sum: S. Grimme et al., J. Chem. Phys. 132, 154104 (2010), equation 16. What depends on
one of the atoms alone is summed before: m_ib = sum of w_ia C6_ab for each element and its systems b.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from atomsml.codegen.loops import Floats, Ints, compiled

SYSTEMS = 7  # of an element, at most
WIDTH = 4.0


class Mixture(NamedTuple):
    """Addresses: weights (atoms, SYSTEMS) and their sums with C6 (atoms, kinds, SYSTEMS), and derivatives by CN."""

    weights: Floats
    weight_slopes: Floats
    mixed: Floats
    mixed_slopes: Floats


def weigh(numbers: Tensor, coordination: Tensor) -> tuple[Tensor, Tensor]:
    """(atoms, SYSTEMS) weights and their derivatives by coordination `numbers` (atoms,).

    `coordination` (atoms, SYSTEMS) is that of the reference systems, -1 where there is none.
    """
    away = numbers[:, None] - coordination
    weights = (-WIDTH * away * away).masked_fill(coordination < 0, -float("inf")).softmax(dim=1)
    slopes = -2 * WIDTH * away
    return weights, weights * (slopes - (weights * slopes).sum(dim=1, keepdim=True))


@compiled
def mix(kind: Ints, atoms: int, kinds: int, c6: Floats, weights: Floats, mixed: Floats) -> None:
    """`mixed` from `weights` and c6 (kinds, kinds, SYSTEMS, SYSTEMS); see Mixture."""
    for i in range(atoms):
        for k in range(kinds):
            for b in range(SYSTEMS):
                total = 0.0
                for a in range(SYSTEMS):
                    total += weights[SYSTEMS * i + a] * c6[((kind[i] * kinds + k) * SYSTEMS + a) * SYSTEMS + b]
                mixed[(i * kinds + k) * SYSTEMS + b] = total


@compiled
def coefficient(mixed: Floats, weights: Floats, kinds: int, i: int, j: int, kind_of_j: int) -> float:
    """C6 of two atoms; with slopes of `mixed` its derivative by CN of atom i, of `weights` by CN of atom j."""
    total = 0.0
    m, n = (i * kinds + kind_of_j) * SYSTEMS, SYSTEMS * j
    for b in range(SYSTEMS):
        total += mixed[m + b] * weights[n + b]
    return total
