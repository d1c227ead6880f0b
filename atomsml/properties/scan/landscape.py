"""Minima, maxima and passes among the points of a scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Point = tuple[int, ...]  # places on the axes of a scan

SHALLOW = 2e-3  # eV: what is no deeper is no minimum of a map, but noise of relaxations


@dataclass(frozen=True)
class Stationary:
    """A minimum, maximum or pass; of a curve by the parabola through three points, of a map a point of the grid."""

    values: tuple[float, ...]  # A or degrees
    energy: float  # eV


def neighbours(point: Point, shape: Sequence[int], closed: Sequence[bool]) -> Iterator[Point]:
    """The points beside one, along each axis."""
    for axis, (length, ring) in enumerate(zip(shape, closed, strict=True)):
        for step in (-1, 1):
            place = point[axis] + step
            if ring and length > 2:
                place %= length
            if 0 <= place < length:
                yield (*point[:axis], place, *point[axis + 1 :])


def curve(values: Array, energies: Array, closed: bool) -> tuple[list[Stationary], list[Stationary]]:
    """Minima and maxima of a curve of even steps, along it; ends of an open curve are neither."""
    found: tuple[list[Stationary], list[Stationary]] = ([], [])
    count, step = len(values), float(values[1] - values[0]) if len(values) > 1 else 0.0
    for i in range(count) if closed else range(1, count - 1):
        before, here, after = energies[i - 1], energies[i], energies[(i + 1) % count]
        if (here - before) * (after - here) > 0 or here == before or before == here == after:
            continue
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend else 0.0
        top = here - 0.25 * (before - after) * shift
        found[int(bend < 0)].append(Stationary((float(values[i] + shift * step),), float(top)))
    return found


def grid(
    values: Sequence[Array], energies: Array, closed: Sequence[bool]
) -> tuple[list[Stationary], list[tuple[int, int, Stationary]]]:
    """Minima of a map, the lowest first, and passes: which two minima each joins, and where its highest point is.

    Points are taken from the lowest to the highest, as if water rose. Where two lakes meet is the lowest pass between
    what they hold; it is given with the lowest minima of both, so that there is one pass less than minima. Minima that
    are not deeper than SHALLOW are left out.
    """
    shape = energies.shape
    lake = np.full(shape, -1)  # the minimum that each point under water drains to
    minima, passes = list[Stationary](), list[tuple[int, int, Stationary]]()
    for flat in np.argsort(energies, axis=None, kind="stable"):
        point = tuple(int(i) for i in np.unravel_index(flat, shape))
        here = Stationary(tuple(float(v[i]) for v, i in zip(values, point, strict=True)), float(energies[point]))
        met = sorted({int(lake[other]) for other in _around(point, shape, closed) if lake[other] >= 0})
        if not met:
            met = [len(minima)]
            minima.append(here)
        for higher in met[1:]:
            passes.append((met[0], higher, here))
            lake[lake == higher] = met[0]
        lake[point] = met[0]
    deep = [(a, b, top) for a, b, top in passes if top.energy - minima[b].energy > SHALLOW]
    kept = sorted({0, *(b for _, b, _ in deep)})
    return [minima[i] for i in kept], [(kept.index(a), kept.index(b), top) for a, b, top in deep]


def _around(point: Point, shape: Sequence[int], closed: Sequence[bool]) -> set[Point]:
    """All eight neighbours of a point of a map."""
    found = set[Point]()
    for steps in product((-1, 0, 1), repeat=len(shape)):
        places = [(i + s) % n if ring else i + s for i, s, n, ring in zip(point, steps, shape, closed, strict=True)]
        if all(0 <= i < n for i, n in zip(places, shape, strict=True)):
            found.add(tuple(places))
    return found - {point}
