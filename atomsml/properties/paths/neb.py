"""Nudged elastic bands: the path of least energy between two minima, and the barrier on it.

End points are relaxed and laid over each other (`alignment.py`), images between them begin by the image dependent pair
potential (`idpp.py`) and move as elastic bands (`band.py`), all images of all bands in one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from atomsml.properties.engine import Engine
from atomsml.properties.paths import idpp
from atomsml.properties.paths.alignment import ORDERS, laid_over, length, prepared, superposition
from atomsml.properties.paths.band import CONVERGED, NOT_FINITE, BandSettings, Course, Moved, move_bands
from atomsml.properties.task import Failure, Start, minima
from atomsml.simulate.batching.in_flight import InFlight, Size
from atomsml.simulate.batching.memory import size_of
from atomsml.simulate.state import place_of

Array = NDArray[np.float64]

STARTS = {"idpp": idpp.between, "linear": idpp.straight}
SAME = 0.05  # A for each atom, root mean square: minima this near are one
ALONG = 0.02  # A: how far the highest image is moved to see whether the path curves down there
CURVED_UP = 0.05  # eV/A^2, which is more than noise: by less a barrier is not off by more than some 1 meV
ASIDE = 0.25  # of the way to the next image: how far it is moved from where the path curves up
DIP = 0.01  # eV: an image that is lower than both its neighbours by more lies in a minimum


@dataclass(frozen=True)
class NebSettings:
    """How many images, and how they come to the path.

    Raises:
        ValueError: no image between the end points, numbers that are not positive, an unknown word.
    """

    images: int = 7  # between the end points; not of a path that is given as a whole
    fmax: float = (
        0.03  # eV/A: converged when no force perpendicular to the path, nor any on the highest image, is larger
    )
    steps: int = 500
    spring: float = 0.1  # eV/A^2
    climb_below: float = 0.5  # eV/A: the highest image climbs once the forces on the band are no larger; 0: never
    start: str = "idpp"  # a key of STARTS: how images lie between the end points at first
    order: str = "refuse"  # one of ORDERS: what becomes of atoms that seem to be numbered otherwise

    def __post_init__(self) -> None:
        for name in ("images", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("fmax", "spring"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        if not 0 <= self.climb_below < np.inf:
            raise ValueError(f"climb_below is a force in eV/A, or 0 for no climbing, got {self.climb_below}")
        if self.climb_below and self.climb_below < self.fmax:
            raise ValueError(f"a band climbs before it is converged: climb_below must not be below fmax, {self.fmax}")
        for name, known in (("start", tuple(STARTS)), ("order", ORDERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; there are {', '.join(known)}")


@dataclass(frozen=True, eq=False)
class Path:
    """A converged band."""

    images: list[ase.Atoms]  # the end points among them, each with energy and forces
    lengths: Array  # A, of the path from the first end point to each image
    energies: Array  # eV
    slopes: Array  # eV/A, of the energy along the path; 0 at the end points
    curvature: (
        float  # eV/A^2, of the energy along the path at the highest image; NaN where none climbed or it is an end
    )
    residual: float  # eV/A, the largest force perpendicular to the path, or on the image that climbed
    climbed: bool
    steps: int

    @property
    def top(self) -> int:
        """The highest image."""
        return int(self.energies.argmax())

    @property
    def barrier(self) -> float:
        """eV, from the first end point."""
        return float(self.energies[self.top] - self.energies[0])

    @property
    def reverse_barrier(self) -> float:
        """eV, from the last end point."""
        return float(self.energies[self.top] - self.energies[-1])

    @property
    def reaction_energy(self) -> float:
        """eV, of the last end point above the first."""
        return float(self.energies[-1] - self.energies[0])

    @property
    def is_interior(self) -> bool:
        """Whether the highest image is between the end points."""
        return 0 < self.top < len(self.images) - 1

    @property
    def dips(self) -> list[int]:
        """Images that lie in minima between the end points."""
        lower = (self.energies[1:-1] < self.energies[:-2] - DIP) & (self.energies[1:-1] < self.energies[2:] - DIP)
        return (1 + np.flatnonzero(lower)).tolist()

    def energy(self, lengths: Array) -> Array:
        """eV at lengths in A: cubic pieces through energies and slopes."""
        return np.asarray(CubicHermiteSpline(self.lengths, self.energies, self.slopes)(lengths))


def elastic_bands(
    paths: Sequence[Sequence[ase.Atoms]],
    engine: Engine,
    settings: NebSettings | None = None,
    start: Start | None = None,
) -> Iterator[tuple[int, Path | Failure]]:
    """The path of least energy of each pair of end points, by its place in the list, as soon as it is known.

        >>> from ase.build import molecule
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.paths.neb import elastic_bands
        >>> up = molecule("NH3")
        >>> down = up.copy()
        >>> down.positions[:, 2] *= -1
        >>> engine = Engine.of(AtomsMLCalculator("organic-xtb"))
        >>> [(_, inversion)] = elastic_bands([[up, down]], engine)
        >>> inversion.reaction_energy < 0.001 < inversion.barrier
        True

    Args:
        paths: two end points each, or whole paths, whose own images are then the first ones.
        start: how end points are relaxed, at a fixed cell.

    Raises:
        ValueError: a path that `prepared` refuses.
    """
    settings, start = settings or NebSettings(), start or Start()
    over = [prepared(path, settings.order) for path in paths]
    yield from _moved_with_ends(over, engine, settings, start)


def _moved_with_ends(
    over: Sequence[list[ase.Atoms]], engine: Engine, settings: NebSettings, start: Start
) -> Iterator[tuple[int, Path | Failure]]:
    ends: dict[int, ase.Atoms | Failure] = dict(minima([path[i] for path in over for i in (0, -1)], engine, start))
    numbers, courses, relaxed = list[int](), list[Course](), list[tuple[ase.Atoms, ase.Atoms]]()
    for number, path in enumerate(over):
        first, last = ends[2 * number], ends[2 * number + 1]
        try:
            pair = _found(first, "first"), _found(last, "last")
            courses.append(_course(path, *pair, settings))
        except ValueError as error:
            yield number, Failure(str(error))
            continue
        numbers.append(number)
        relaxed.append(pair)
    dips = dict[int, Path]()
    for place, found in _paths(dict(enumerate(courses)), relaxed, engine, settings):
        if isinstance(found, Path) and found.curvature > CURVED_UP:
            dips[place] = found
        else:
            yield numbers[place], found
    aside = {place: _off_the_dip(path, courses[place]) for place, path in dips.items()}
    for place, found in _paths(aside, relaxed, engine, settings):
        if isinstance(found, Path) and found.curvature > CURVED_UP:
            reason = "the highest image lies in a dip of the path, below its barrier; take another number of images"
            yield numbers[place], Failure(reason)
        elif isinstance(found, Path):
            yield numbers[place], replace(found, steps=dips[place].steps + found.steps)
        else:
            yield numbers[place], found


def _paths(
    courses: Mapping[int, Course],
    ends: Sequence[tuple[ase.Atoms, ase.Atoms]],
    engine: Engine,
    settings: NebSettings,
) -> Iterator[tuple[int, Path | Failure]]:
    """Of each course, by its key, which is the place of its end points as well."""
    keys = list(courses)
    for moved in _moved(list(courses.values()), engine, settings):
        key = keys[moved.index]
        try:
            yield key, _path(courses[key], ends[key], moved, engine, settings)
        except ValueError as error:
            yield key, Failure(str(error))


def _off_the_dip(path: Path, course: Course) -> Course:
    """The highest image, which symmetry held in a dip of the energy, moved aside; from there it climbs."""
    images = [image.copy() for image in path.images]
    here, there = images[path.top].positions, images[path.top + 1].positions
    images[path.top].set_positions(here + ASIDE * (there - here), apply_constraint=False)
    return Course(images, course.energies)


def _found(end: ase.Atoms | Failure, which: str) -> ase.Atoms:
    if isinstance(end, Failure):
        raise ValueError(f"the {which} end point {end.reason}")
    return end


def _course(path: Sequence[ase.Atoms], first: ase.Atoms, last: ase.Atoms, settings: NebSettings) -> Course:
    """The path as it begins, between relaxed end points.

    Raises:
        ValueError: the end points are one minimum.
    """
    energies = first.get_potential_energy(), last.get_potential_energy()
    if length(first, last) < SAME * np.sqrt(len(first)):
        raise ValueError("both end points relax to the same minimum, between which there is no path")
    if len(path) == 2:
        return Course(STARTS[settings.start](first, laid_over(first, last), settings.images), energies)
    images = [first.copy()]
    for image in [*path[1:-1], last]:
        images.append(laid_over(images[-1], image))
    return Course(images, energies)


def _moved(courses: Sequence[Course], engine: Engine, settings: NebSettings) -> Iterator[Moved]:
    if not courses:
        return
    model, room = engine.model, engine.room
    asked = BandSettings(settings.fmax, settings.steps, settings.spring, settings.climb_below)

    def size(number: int) -> Size:
        images = courses[number].images
        return sum((size_of(image, model, room) for image in images[1:-1]), Size())

    flight = InFlight(len(courses), size, room)
    yield from move_bands(courses, model, asked, flight, place_of(engine.device))


def _path(
    course: Course, ends: tuple[ase.Atoms, ase.Atoms], moved: Moved, engine: Engine, settings: NebSettings
) -> Path:
    """
    Raises:
        ValueError: the band is not converged.
    """
    if moved.reason == NOT_FINITE:
        raise ValueError(
            f"an image of the band has no finite energy and forces by this model after {moved.steps} steps; do atoms "
            "meet on the way? give a path of your own"
        )
    if moved.reason != CONVERGED:
        raise ValueError(
            f"the band is not converged: after {moved.steps} steps a force is {moved.residual:.3f} eV/A, where "
            f"{settings.fmax:g} are asked; allow more steps, a larger fmax, or more images"
        )
    images = [ends[0], *moved.images, _as_last(course, ends[1])]
    ways = np.diff([image.positions for image in images], axis=0)
    apart = np.sqrt((ways**2).sum(axis=(1, 2)))
    energies = np.array([image.get_potential_energy() for image in images])
    lengths = np.concatenate([[0], apart.cumsum()])
    slopes = _slopes(images, ways, apart)
    curvature = _curvature(images, int(energies.argmax()), engine) if moved.climbed else np.nan
    return Path(images, lengths, energies, slopes, curvature, moved.residual, moved.climbed, moved.steps)


def _as_last(course: Course, end: ase.Atoms) -> ase.Atoms:
    """The last end point as it lies on the path; forces turn with it."""
    image = course.images[-1].copy()
    forces = end.get_forces(apply_constraint=False)
    if not (image.pbc.any() or image.constraints):
        forces = forces @ superposition(end.positions, image.positions)[0].T
    image.calc = SinglePointCalculator(image, energy=end.get_potential_energy(), forces=forces)
    return image


def _curvature(images: Sequence[ase.Atoms], top: int, engine: Engine) -> float:
    """eV/A^2, by the forces on copies of the highest image that are moved along the path."""
    if top in (0, len(images) - 1):
        return np.nan
    direction = images[top + 1].positions - images[top - 1].positions
    direction /= np.linalg.norm(direction)
    copies = [images[top].copy(), images[top].copy()]
    for copy, way in zip(copies, (-ALONG, ALONG), strict=True):
        copy.set_positions(copy.positions + way * direction, apply_constraint=False)
    low, high = (-float((found.get_forces() * direction).sum()) for found in engine.evaluate(copies))
    return (high - low) / (2 * ALONG)


def _slopes(images: Sequence[ase.Atoms], ways: Array, apart: Array) -> Array:
    """eV/A: minus the force of each image along the path, whose direction is that between its neighbours."""
    slopes = np.zeros(len(images))
    for i, image in enumerate(images[1:-1], 1):
        direction = ways[i - 1] / apart[i - 1] + ways[i] / apart[i]
        slopes[i] = -(image.get_forces() * direction).sum() / np.linalg.norm(direction)
    return slopes
