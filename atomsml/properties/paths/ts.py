"""Transition states: saddle points of one imaginary mode, and the minima to which the ways down from them lead.

A guess, such as the top of an elastic band, is followed to a saddle point (`saddle.py`) and judged by its exact
Hessian; then both ways down are gone (`irc.py`) and their ends relaxed. All structures are evaluated together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from atomsml.properties.engine import Engine
from atomsml.properties.paths.alignment import length, prepared
from atomsml.properties.paths.irc import Way, descend
from atomsml.properties.paths.motion import AtomMotion, Search, largest_force, together
from atomsml.properties.paths.saddle import Saddle, find_saddle
from atomsml.properties.task import Failure, Start, relaxed_images
from atomsml.properties.vibrations import WAVENUMBER

Array = NDArray[np.float64]

SAME = 0.1  # A for each atom, root mean square: minima this near are one


@dataclass(frozen=True)
class TsSettings:
    """How saddle points are looked for, and how the ways down are gone.

    Raises:
        ValueError: numbers that are not positive.
    """

    fmax: float = 0.005  # eV/A: no force at the saddle point is larger
    steps: int = 200
    irc_step: float = 0.1  # A, of all atoms, between points of the ways down where these begin
    irc_points: int = 200  # of each way at most
    irc_fmax: float = 0.02  # eV/A: a way ends where no force is larger, and is relaxed from there

    def __post_init__(self) -> None:
        for name in ("fmax", "irc_step", "irc_fmax"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        for name in ("steps", "irc_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Descent:
    """One of the two ways down."""

    way: Way
    images: list[ase.Atoms]  # those of the way, with energies
    minimum: ase.Atoms | Failure  # where relaxation leads from its end

    def depth(self, top: float) -> float:
        """eV, of the minimum below an energy; NaN: there is none."""
        return np.nan if isinstance(self.minimum, Failure) else top - float(self.minimum.get_potential_energy())


@dataclass(frozen=True, eq=False)
class TransitionState:
    """A saddle point with one imaginary mode, and what lies on both sides."""

    atoms: ase.Atoms  # with energy and forces
    frequencies: Array  # cm^-1, ascending; the first is imaginary and negative
    mode: Array  # (atoms, 3) directions in which atoms move by the imaginary mode, of length 1
    residual: float  # eV/A, the largest force
    steps: int
    hessians: int  # how many were computed
    ways: tuple[Descent, Descent]
    expected: tuple[float, float] | None  # A for each atom, from the ends of a given path to the minima; None: no path

    @property
    def energy(self) -> float:
        """eV."""
        return float(self.atoms.get_potential_energy())

    @property
    def is_expected(self) -> bool | None:
        """Whether the two minima are the ends of the given path; None: none was given."""
        return None if self.expected is None else max(self.expected) < SAME


@dataclass(frozen=True, eq=False)
class Guess:
    """Where a search begins."""

    atoms: ase.Atoms
    direction: Array | None = None  # (atoms, 3) along which it goes up; None: the lowest mode
    ends: tuple[ase.Atoms, ase.Atoms] | None = None  # the minima that are expected

    @staticmethod
    def of(images: Sequence[ase.Atoms], energies: Sequence[float]) -> Guess:
        """The highest image between the ends of a path.

        Raises:
            ValueError: fewer than three images; as `alignment.prepared`.
        """
        if len(images) < 3:
            raise ValueError("a path has images between its end points, and this has none; find one with atomsml neb")
        path = prepared(images, "keep")
        top = 1 + int(np.argmax(energies[1:-1]))
        return Guess(path[top], path[top + 1].positions - path[top - 1].positions, (path[0], path[-1]))


def check(atoms: ase.Atoms) -> None:
    """
    Raises:
        ValueError: constraints other than FixAtoms, or nothing that can move but as a whole.
    """
    motion = AtomMotion.of(atoms)
    if motion.basis(motion.point, np.ones(len(motion.point))).shape[1] == 0:
        raise ValueError("nothing can move in it but the whole: it has no transition state")


def transition_states(
    guesses: Sequence[Guess], engine: Engine, settings: TsSettings | None = None, start: Start | None = None
) -> Iterator[tuple[int, TransitionState | Failure]]:
    """The transition state near each guess, by its place in the list.

        >>> from ase.build import molecule
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.paths.ts import Guess, transition_states
        >>> flat = molecule("NH3")
        >>> flat.positions[0, 2] = flat.positions[1, 2] + 0.1
        >>> engine = Engine.of(AtomsMLCalculator("organic-xtb"))
        >>> [(_, found)] = transition_states([Guess(flat)], engine)
        >>> int((found.frequencies < 0).sum())
        1

    Args:
        start: how the ends of the ways down are relaxed.

    Raises:
        ValueError: a guess that `check` refuses.
    """
    settings, start = settings or TsSettings(), start or Start()
    for guess in guesses:
        check(guess.atoms)
    motions = [AtomMotion.of(guess.atoms) for guess in guesses]
    searches = [
        (motion, find_saddle(motion.point, motion, settings.fmax, settings.steps, _direction(guess, motion)))
        for guess, motion in zip(guesses, motions, strict=True)
    ]
    saddles = dict[int, Saddle]()
    for i, found in together(searches, engine):
        if isinstance(found, Failure):
            yield i, found
        else:
            saddles[i] = found
    yield from _with_ways(guesses, motions, saddles, engine, settings, start)


def _direction(guess: Guess, motion: AtomMotion) -> Array | None:
    if guess.direction is None:
        return None
    along: Array = guess.direction[motion.moving].ravel()
    return along / np.linalg.norm(along)


def _with_ways(
    guesses: Sequence[Guess],
    motions: Sequence[AtomMotion],
    saddles: dict[int, Saddle],
    engine: Engine,
    settings: TsSettings,
    start: Start,
) -> Iterator[tuple[int, TransitionState | Failure]]:
    """Both ways of all saddle points at once, and the minima at their ends."""
    modes = {i: normal_modes(motions[i], saddle) for i, saddle in saddles.items()}
    sides = [(i, sign) for i in saddles for sign in (-1, 1)]
    searches = [(motions[i], _descend(saddles[i], motions[i], sign * modes[i][1][:, 0], settings)) for i, sign in sides]
    ways = {sides[k]: way for k, way in together(searches, engine)}
    whole = {side: way for side, way in ways.items() if isinstance(way, Way)}
    ends = [motions[i].at(way.points[-1]) for (i, _), way in whole.items()]
    minima = dict(zip(whole, relaxed_images(ends, engine, start.settings), strict=True))
    for i, saddle in saddles.items():
        failed = [way for way in (ways[i, -1], ways[i, 1]) if isinstance(way, Failure)]
        if failed:
            yield i, Failure(f"a way down from its transition state {failed[0].reason}")
            continue
        one, other = (Descent(whole[i, s], _images(motions[i], whole[i, s]), minima[i, s]) for s in (-1, 1))
        yield i, _state(guesses[i], motions[i], saddle, modes[i], (one, other))


def _descend(saddle: Saddle, motion: AtomMotion, mode: Array, settings: TsSettings) -> Search[Way]:
    """Down along a mass-weighted mode; heavy atoms move as far between two points as light ones."""
    step = settings.irc_step / float(np.linalg.norm(mode / np.sqrt(motion.masses)))
    return descend(saddle, motion, mode, step, settings.irc_points, settings.irc_fmax)


def normal_modes(motion: AtomMotion, saddle: Saddle) -> tuple[Array, Array]:
    """Frequencies (modes,) in cm^-1, ascending, imaginary ones negative; mass-weighted directions (3M, modes)."""
    weights = np.sqrt(motion.masses)
    basis = motion.basis(saddle.point, weights)
    squares, vectors = np.linalg.eigh(basis.T @ (saddle.hessian / np.outer(weights, weights)) @ basis)
    return WAVENUMBER * np.sign(squares) * np.sqrt(np.abs(squares)), basis @ vectors


def _images(motion: AtomMotion, way: Way) -> list[ase.Atoms]:
    images = [motion.at(point) for point in way.points]
    for image, energy in zip(images, way.energies, strict=True):
        image.calc = SinglePointCalculator(image, energy=float(energy))
    return images


def _state(
    guess: Guess, motion: AtomMotion, saddle: Saddle, modes: tuple[Array, Array], ways: tuple[Descent, Descent]
) -> TransitionState:
    atoms, mode = motion.at(saddle.point), np.zeros((len(guess.atoms), 3))
    forces = np.zeros_like(mode)
    forces[motion.moving] = -saddle.gradient.reshape(-1, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=saddle.energy, forces=forces)
    frequencies, directions = modes
    mode[motion.moving] = (directions[:, 0] / np.sqrt(motion.masses)).reshape(-1, 3)
    expected = None
    if guess.ends is not None:
        orders = [ways, ways[::-1]]
        apart = [[_apart(end, way) for end, way in zip(guess.ends, order, strict=True)] for order in orders]
        best = int(np.argmin([sum(each) for each in apart]))
        ways, expected = orders[best], (apart[best][0], apart[best][1])
    return TransitionState(
        atoms=atoms,
        frequencies=frequencies,
        mode=mode / np.linalg.norm(mode),
        residual=largest_force(saddle.gradient),
        steps=saddle.steps,
        hessians=saddle.hessians,
        ways=ways,
        expected=expected,
    )


def _apart(end: ase.Atoms, way: Descent) -> float:
    """A for each atom, root mean square, laid over each other; infinite where there is no minimum."""
    return np.inf if isinstance(way.minimum, Failure) else length(end, way.minimum) / float(np.sqrt(len(end)))
