"""Separations: two rigid fragments of a complex at other distances from each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.properties.bind.fragments import Fragments, nearest

LINES = ("nearest", "centres")
MOST_POINTS = 1000


@dataclass(frozen=True)
class Separations:
    """Distances of two fragments as multiples of that in the complex, and the line on which the second one moves.

    The line through the two atoms that are nearest in the complex stretches a hydrogen bond. The line through the
    centres of mass is the axis of symmetric complexes, such as a T of two benzenes. On neither need a molecule come
    freely out of another that surrounds it.

    Raises:
        ValueError: scales that are not positive and ascending, a number of points or a line that does not suit.
    """

    start: float = 0.9
    stop: float = 2.0
    points: int = 12
    along: str = "nearest"  # one of LINES

    def __post_init__(self) -> None:
        if not 0 < self.start < self.stop < np.inf:
            raise ValueError(f"a curve goes from a smaller to a larger multiple, got {self.start:g} and {self.stop:g}")
        if not 2 <= self.points <= MOST_POINTS:
            raise ValueError(f"a curve has between 2 and {MOST_POINTS} points, got {self.points}")
        if self.along not in LINES:
            raise ValueError(f"unknown line {self.along!r}; there are {', '.join(LINES)}")

    @property
    def scales(self) -> NDArray[np.float64]:
        return np.linspace(self.start, self.stop, self.points)


def separated(atoms: ase.Atoms, fragments: Fragments, separations: Separations) -> Iterator[tuple[float, ase.Atoms]]:
    """Distance (A) on the line, and the complex with its second fragment there.

    Raises:
        ValueError: not two fragments, or centres in one place.
    """
    if len(fragments) != 2:
        raise ValueError(f"a curve is of two fragments, this complex has {len(fragments)}; name two")
    first, second = (list(fragment) for fragment in fragments)
    if separations.along == "nearest":
        i, j, _ = nearest(atoms, first)
        line = atoms.positions[j] - atoms.positions[i]
    else:
        line = atoms[second].get_center_of_mass() - atoms[first].get_center_of_mass()
    distance = float(np.linalg.norm(line))
    if distance < 1e-3:
        raise ValueError("its fragments have their centres in one place; take the line of the nearest atoms")
    for scale in separations.scales:
        moved = atoms.copy()
        moved.set_constraint()
        moved.positions[second] += (scale - 1) * line
        yield float(scale) * distance, moved
