"""Scans: the energy of a molecule along one or two coordinates, rigid, or with everything else relaxed.

The points of all molecules are computed together. Each begins as the minimum of the molecule with the driven
coordinates turned to their values. In a relaxed scan they are held there, and each point is then relaxed once more from
what was found at each point beside it; where that is lower it replaces the point, and the points beside it are tried
again, until nothing changes. This takes away most of the hysteresis of scans that go from point to point (as the
wavefronts of Qiu, Smith, Stern, Feng, Jang and Wang, J. Chem. Phys. 152, 244116 (2020)). What is left is told: two
neighbours are a jump apart where the geometry of one, brought to the other, relaxes to a higher minimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import ase
import numpy as np

from atomsml.io.sdf import mol_with_bonds
from atomsml.properties.engine import Engine
from atomsml.properties.scan.driven import MOST_POINTS, Array, Coordinate, Driven, locate, place
from atomsml.properties.scan.landscape import Point, neighbours
from atomsml.properties.task import Failure, Start, in_parts, minima, relaxed_images
from atomsml.simulate.bonding import changed_bonds
from atomsml.simulate.internals.held import without_held

LOWER = 1e-3  # eV: a neighbour's minimum that is lower by more replaces that of a point
JUMP = 1e-2  # eV: by so much higher is a neighbour's minimum that has other values of what is not driven
ROUNDS = 10  # of trials from neighbours at most


@dataclass(frozen=True)
class ScanSettings:
    """What is driven, and how.

    Raises:
        ValueError: neither one nor two coordinates, or too many points.
    """

    driven: tuple[Driven, ...]
    rigid: bool = False  # nothing else moves
    from_neighbours: bool = True  # points of a relaxed scan are tried from their neighbours

    def __post_init__(self) -> None:
        if not 1 <= len(self.driven) <= 2:
            raise ValueError(f"a scan drives one or two coordinates, got {len(self.driven)}")
        points = int(np.prod([len(each.values) for each in self.driven]))
        if points > MOST_POINTS:
            raise ValueError(f"the scan has {points} points, more than {MOST_POINTS}; take larger steps")


@dataclass(frozen=True, eq=False)
class Scan:
    """Points of a grid, in the order of its axes, the last one fastest."""

    atoms: ase.Atoms  # where the scan began
    coordinates: tuple[Coordinate, ...]
    energies: Array  # (values of the first, of the second) eV
    frames: list[ase.Atoms]  # of the points, with results
    relaxed: bool
    improved: int  # points whose minimum was found from a neighbour
    jumps: list[tuple[Point, Point]]  # neighbours between which the geometry jumps
    reacted: list[Point]  # points that have other bonds than the start, beside a driven one
    broken: list[Point]  # points where a driven bond is broken, or made
    settled: bool  # whether trials from neighbours ended because nothing was lower any more


def check(atoms: ase.Atoms) -> None:
    """Refuse what is no molecule to scan.

    Raises:
        ValueError: a periodic structure.
    """
    if atoms.pbc.any():
        raise ValueError(f"scans are of molecules, and this is periodic: pbc is {atoms.pbc.tolist()}")


def scans(
    structures: Sequence[ase.Atoms], engine: Engine, settings: ScanSettings, start: Start | None = None
) -> Iterator[tuple[int, Scan | Failure]]:
    """The scan of each molecule, by its place in the list.

        >>> from ase.build import molecule
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.scan.driven import Driven
        >>> from atomsml.properties.scan.scans import ScanSettings, scans
        >>> engine = Engine.of(AtomsMLCalculator("organic-xtb"))
        >>> turn = Driven("torsion", "[H]CC[H]", 0, 60, 60)
        >>> [(_, ethane)] = scans([molecule("C2H6")], engine, ScanSettings((turn,)))
        >>> round(float(np.ptp(ethane.energies)), 2)
        0.08

    Without `start.relax` the scan begins at the geometry that is given.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    start = start or Start()
    begun = minima(structures, engine, start) if start.relax else enumerate(structures)
    yield from in_parts(
        begun,
        engine,
        begin=lambda index, minimum: _begin(index, minimum, settings),
        size=lambda grid: len(grid.atoms) * len(grid.wanted),
        finish=lambda grids: _finished(engine, grids, settings, start),
    )


@dataclass(eq=False)
class _Grid:
    """The points of a molecule on their way."""

    index: int
    atoms: ase.Atoms
    coordinates: tuple[Coordinate, ...]
    wanted: dict[Point, ase.Atoms]  # as they begin
    found: dict[Point, ase.Atoms] = field(default_factory=dict)
    failures: dict[Point, Failure] = field(default_factory=dict)
    tried: dict[tuple[Point, Point], float] = field(default_factory=dict)  # eV at the second, from the first
    improved: set[Point] = field(default_factory=set)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(each.values) for each in self.coordinates)

    def values(self, point: Point) -> list[float]:
        return [float(each.values[i]) for each, i in zip(self.coordinates, point, strict=True)]

    def beside(self, point: Point) -> list[Point]:
        return list(neighbours(point, self.shape, [each.closed for each in self.coordinates]))

    def moved(self, point: Point, other: Point) -> ase.Atoms:
        """What was found at a point, brought to another."""
        atoms = self.found[point].copy()
        atoms.set_constraint(self.atoms.constraints)
        return place(atoms, self.coordinates, self.values(other))

    def take(self, point: Point, found: ase.Atoms | Failure) -> bool:
        """Keep what was found at a point if it is the lowest; whether it is, by more than noise."""
        if isinstance(found, Failure):
            self.failures[point] = found
            return False
        before = self.found.get(point)
        if before is not None and found.get_potential_energy() > before.get_potential_energy() - LOWER:
            return False
        self.found[point] = found
        return True


def _begin(index: int, minimum: ase.Atoms, settings: ScanSettings) -> _Grid:
    """
    Raises:
        ValueError: a coordinate that the molecule has not, or that cannot be driven.
    """
    mol = mol_with_bonds(minimum)
    coordinates = tuple(locate(each, minimum, mol) for each in settings.driven)
    grid = _Grid(index, minimum, coordinates, {})
    for point in product(*map(range, grid.shape)):
        grid.wanted[point] = place(minimum, coordinates, grid.values(point))
    return grid


def _finished(
    engine: Engine, grids: Sequence[_Grid], settings: ScanSettings, start: Start
) -> Iterator[tuple[int, Scan | Failure]]:
    images = [image for grid in grids for image in grid.wanted.values()]
    if settings.rigid:
        found: Iterator[ase.Atoms | Failure] = iter(engine.evaluate(list(map(without_held, images))))
    else:
        found = iter(relaxed_images(images, engine, start.settings))
    fresh = {i: [p for p in grid.wanted if grid.take(p, next(found))] for i, grid in enumerate(grids)}
    if not settings.rigid and settings.from_neighbours:
        for _ in range(ROUNDS):
            fresh = _tried(engine, grids, fresh, start)
            if not any(fresh.values()):
                break
    else:
        fresh = {}
    for i, grid in enumerate(grids):
        yield grid.index, _concluded(grid, settings, settled=not fresh.get(i))


def _tried(
    engine: Engine, grids: Sequence[_Grid], fresh: Mapping[int, Sequence[Point]], start: Start
) -> dict[int, list[Point]]:
    """Relax the neighbours of fresh points from what these have; the points that became lower."""
    tasks = [(i, p, q) for i, points in fresh.items() for p in points for q in grids[i].beside(p)]
    images = [grids[i].moved(p, q) for i, p, q in tasks]
    lower: dict[int, dict[Point, None]] = {i: {} for i in fresh}
    for (i, p, q), found in zip(tasks, relaxed_images(images, engine, start.settings), strict=True):
        grid = grids[i]
        grid.tried[p, q] = np.inf if isinstance(found, Failure) else found.get_potential_energy()
        if grid.take(q, found):
            lower[i][q] = None
    for i, points in lower.items():
        grids[i].improved |= points.keys()
    return {i: list(points) for i, points in lower.items()}


def _concluded(grid: _Grid, settings: ScanSettings, settled: bool) -> Scan | Failure:
    points = list(grid.wanted)
    for point in points:
        at = f"at {', '.join(f'{v:g}' for v in grid.values(point))} {grid.coordinates[0].unit}"
        if point not in grid.found:
            return Failure(f"{at} it {grid.failures[point].reason}")
        if not np.isfinite(grid.found[point].get_potential_energy()):
            return Failure(f"the model gives no finite energy {at}; do atoms overlap?")
    frames = [grid.found[point] for point in points]
    for frame in frames:
        frame.set_constraint(grid.atoms.constraints)
    energies = np.array([frame.get_potential_energy() for frame in frames])
    lengths = {frozenset(each.atoms) for each in grid.coordinates if each.kind == "bond"}
    changed = {p: changed_bonds(grid.atoms, f) or frozenset() for p, f in zip(points, frames, strict=True)}
    of = dict(zip(points, energies.tolist(), strict=True))
    jumps = [(p, q) for (p, q), energy in grid.tried.items() if energy > of[q] + JUMP]
    return Scan(
        atoms=grid.atoms,
        coordinates=grid.coordinates,
        energies=energies.reshape(grid.shape),
        frames=frames,
        relaxed=not settings.rigid,
        improved=len(grid.improved),
        jumps=sorted({(min(pair), max(pair)) for pair in jumps}),
        reacted=[p for p, pairs in changed.items() if set(map(frozenset, pairs)) - lengths],
        broken=[p for p, pairs in changed.items() if set(map(frozenset, pairs)) & lengths],
        settled=settled,
    )
