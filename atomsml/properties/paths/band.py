"""Elastic bands: images of a path between two fixed end points, which springs along the path hold apart.

With the unit tangent t and the force F of the potential, image i feels

    F - (F.t) t + k (|R(i+1) - R(i)| - |R(i) - R(i-1)|) t

where t points to the neighbour that is higher in energy, and at extrema of the energy is the mean of both directions,
weighted by differences of energies (Henkelman and Jonsson, J. Chem. Phys. 113, 9978 (2000)). The highest image climbs:
it feels F - 2 (F.t) t and no spring (Henkelman, Uberuaga and Jonsson, J. Chem. Phys. 113, 9901 (2000)).

All images of all bands are one State; its `group` says which images are one band, and a band is one problem of FIRE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from torch import Tensor

from atomsml.simulate.batching.in_flight import InFlight
from atomsml.simulate.optimizers.fire import FIRE, FIREMemory
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import Flat, PerAtom, PerSystem, State, total

LOOK = 10  # evaluations between two looks at a device
RUNNING, CONVERGED, OUT_OF_STEPS, NOT_FINITE = range(4)


@dataclass(frozen=True)
class BandSettings:
    """How a band moves."""

    fmax: float  # eV/A: converged when no atom of no image feels more, springs left out
    steps: int
    spring: float  # k, eV/A^2
    climb_below: float  # eV/A: the highest image begins to climb once the band feels no more; 0: never


@dataclass(frozen=True, eq=False)
class Course:
    """Images of a band as it begins, its end points among them, unwrapped: no atom jumps by a lattice vector."""

    images: Sequence[ase.Atoms]
    energies: tuple[float, float]  # eV, of the end points


@dataclass(frozen=True, eq=False)
class Moved:
    """A band that has ended."""

    index: int  # among the courses
    images: list[ase.Atoms]  # those between the end points, with results
    steps: int
    residual: float  # eV/A, the largest force, springs left out
    climbed: bool
    reason: int  # one of the numbers above


@dataclass(eq=False)
class Bands(Flat):
    """What is remembered of the images of bands on their way."""

    first: PerAtom  # (atoms, 3) where the first end point has this atom, A
    last: PerAtom
    first_energy: PerSystem  # eV
    last_energy: PerSystem
    climbs: PerSystem  # whether the highest image of its band climbs
    residual: PerSystem  # eV/A, of its band
    reason: PerSystem
    fire: FIREMemory


def move_bands(
    courses: Sequence[Course],
    ask: Callable[[State], object],
    settings: BandSettings,
    flight: InFlight,
    place: torch.device,
) -> Iterator[Moved]:
    """Move bands until they are converged or end otherwise, each yielded then.

    Args:
        ask: fills the energies and forces of a state.
        flight: which courses run at the same time.
        place: where the states are.
    """
    everything, bands = _start(courses)
    numbers = np.repeat(np.arange(len(courses)), [len(course.images) - 2 for course in courses])
    running: tuple[State, Bands] | None = None
    while flight:
        if entering := flight.enter():
            chosen = torch.from_numpy(np.flatnonzero(np.isin(numbers, entering)))
            fresh = _taken(everything, bands, chosen)
            fresh = fresh[0].to(place), fresh[1].to(place)
            running = fresh if running is None else (running[0].join([fresh[0]]), running[1].join([fresh[1]]))
        assert running is not None
        state, memory = running
        for _ in range(LOOK if place.type != "cpu" else 1):
            ask(state)
            _step(state, memory, settings)
        ended = memory.reason != RUNNING
        if not ended.any():
            continue
        done = list(_moved(*_taken(state, memory, ended.nonzero().flatten()), courses, numbers))
        yield from done
        flight.leave([each.index for each in done])
        running = None if ended.all() else _taken(state, memory, (~ended).nonzero().flatten())


def _start(courses: Sequence[Course]) -> tuple[State, Bands]:
    """All images between end points, in order, and what is remembered of them at first."""
    inner = [image for course in courses for image in course.images[1:-1]]
    state, counts = State.of(inner), torch.tensor([len(course.images) - 2 for course in courses])
    state.group = torch.repeat_interleave(counts.cumsum(0) - counts, counts)

    def of_atoms(end: int) -> Tensor:
        return torch.from_numpy(np.concatenate([c.images[end].positions for c in courses for _ in c.images[1:-1]]))

    first, last = torch.tensor([course.energies for course in courses], dtype=torch.float64)[
        torch.repeat_interleave(counts)
    ].unbind(dim=1)
    return state, Bands(
        first=of_atoms(0),
        last=of_atoms(-1),
        first_energy=first,
        last_energy=last,
        climbs=torch.zeros_like(state.index, dtype=torch.bool),
        residual=torch.full_like(first, torch.inf),
        reason=torch.full_like(state.index, RUNNING),
        fire=FIRE().start(_vector(state, state.positions)),
    )


def _vector(state: State, rows: Tensor) -> Vector:
    return Vector(rows, state.cell[:, :0], state.batch, state.group)


def _taken(state: State, bands: Bands, systems: Tensor) -> tuple[State, Bands]:
    atoms = state.atoms_of(systems)
    return state.systems(systems), bands.take(atoms, systems)


def _step(state: State, bands: Bands, settings: BandSettings) -> None:
    """Judge bands whose images have been evaluated, and move those that have not ended."""
    forces, residual, above = band_forces(state, bands, settings.spring)
    waits = above & ~bands.climbs if settings.climb_below > 0 else torch.zeros_like(above)  # it climbs from now on
    bands.climbs = bands.climbs | (residual <= settings.climb_below)
    found = torch.where(state.step >= settings.steps, OUT_OF_STEPS, RUNNING)
    found = torch.where((residual <= settings.fmax) & ~waits, CONVERGED, found)
    found = torch.where(torch.isfinite(residual), found, NOT_FINITE)
    runs = bands.reason == RUNNING
    bands.residual = torch.where(runs, residual, bands.residual)
    bands.reason = torch.where(runs, found, bands.reason)
    moves = bands.reason == RUNNING
    here = _vector(state, state.positions)
    there = FIRE().step(bands.fire, here, _vector(state, forces), state.energy)
    state.positions = there.where(moves, here).atoms
    state.step = state.step + moves


def band_forces(state: State, bands: Bands, spring: float) -> tuple[Tensor, Tensor, Tensor]:
    """The forces (atoms, 3) on images that have been evaluated.

    And (systems,) the largest force that matters on any image of the band of each, which is the force of the potential
    perpendicular to the path and, where an image climbs, all of it; and whether an image is above both end points.
    """
    images = torch.arange(state.num_systems, device=state.device)
    is_first = state.group == images
    is_last = torch.cat([is_first[1:], is_first.new_ones(1)])
    atoms, count = torch.arange(state.num_atoms, device=state.device), state.atoms_per_system[state.batch]
    before = torch.where(is_first[state.batch], 0, atoms - count)
    after = torch.where(is_last[state.batch], 0, atoms + count)
    back = torch.where(is_first[state.batch, None], bands.first, state.positions[before])
    ahead = torch.where(is_last[state.batch, None], bands.last, state.positions[after])
    to, away = ahead - state.positions, state.positions - back
    lower = torch.where(is_first, bands.first_energy, state.energy.roll(1))
    upper = torch.where(is_last, bands.last_energy, state.energy.roll(-1))

    tangent = _tangent(state, to, away, lower, upper)
    force = state.held(state.forces)
    along = _dot(state, force, tangent)
    across = force - along[state.batch, None] * tangent
    stretch = _dot(state, to, to).sqrt() - _dot(state, away, away).sqrt()
    top, above = _tops(state, bands)
    climbs = top & above & bands.climbs
    pulled = across + (spring * stretch)[state.batch, None] * tangent
    felt = torch.where(climbs[state.batch, None], force - 2 * along[state.batch, None] * tangent, pulled)
    matters = torch.where(climbs[state.batch, None], force, across)
    return felt, _vector(state, matters).longest(), above


def _tangent(state: State, to: Tensor, away: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """(atoms, 3) of unit length for each image, given the ways to its neighbours and their energies."""
    up, down = upper - state.energy, lower - state.energy
    large, small = torch.maximum(up.abs(), down.abs()), torch.minimum(up.abs(), down.abs())
    flat = large == 0
    large, small = torch.where(flat, 1, large), torch.where(flat, 1, small)
    ahead = torch.where(upper > lower, large, small)
    behind = torch.where(upper > lower, small, large)
    rises, falls = (up > 0) & (down < 0), (up < 0) & (down > 0)
    ahead = torch.where(rises, 1, torch.where(falls, 0, ahead))
    behind = torch.where(rises, 0, torch.where(falls, 1, behind))
    tangent = ahead[state.batch, None] * to + behind[state.batch, None] * away
    return tangent / _dot(state, tangent, tangent).sqrt()[state.batch, None]


def _tops(state: State, bands: Bands) -> tuple[Tensor, Tensor]:
    """(systems,) whether an image is the highest of its band, and whether that is above both end points."""
    highest = torch.full_like(state.energy, -torch.inf).scatter_reduce(0, state.group, state.energy, "amax")[
        state.group
    ]
    return state.energy == highest, highest > torch.maximum(bands.first_energy, bands.last_energy)


def _dot(state: State, a: Tensor, b: Tensor) -> Tensor:
    """(systems,) scalar products of rows of atoms."""
    return total((a * b).sum(dim=1), state.batch, state.num_systems)


def _moved(state: State, bands: Bands, courses: Sequence[Course], numbers: np.ndarray) -> Iterator[Moved]:
    """Of bands that have ended."""
    inner = [image for course in courses for image in course.images[1:-1]]
    indices = state.index.tolist()
    copies = state.write_to([inner[i] for i in indices])
    owners = numbers[indices]
    for number in dict.fromkeys(owners.tolist()):
        places = np.flatnonzero(owners == number)
        one = int(places[0])
        yield Moved(
            index=number,
            images=[copies[i] for i in places],
            steps=int(state.step[one]),
            residual=float(bands.residual[one]),
            climbed=bool(bands.climbs[one]),
            reason=int(bands.reason[one]),
        )
