"""Interaction energies: what holds the fragments of a complex together.

    E_int  = E(complex) - sum E(fragment as it is in the complex)         negative: they attract
    E_def  = sum E(fragment as it is in the complex) - E(fragment at its own minimum)
    E_bind = E_int + E_def = E(complex) - sum E(fragment at its own minimum)

There is no counterpoise correction (Boys and Bernardi, Mol. Phys. 19, 553 (1970)): a potential has no basis functions
that a fragment could borrow from the other. If its labels have this error, the potential has learnt it, and no
calculation with the potential can take it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.electronic_state import check_atoms
from atomsml.properties.bind.fragments import Fragments, cut_bonds, fragments_of, molecules, nearest
from atomsml.properties.bind.separation import Separations, separated
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start, in_parts, minima, relaxed_images
from atomsml.simulate.bonding import bonding_changed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BindSettings:
    """What the fragments are, and whether they are pulled apart."""

    fragments: Fragments | None = None  # None: molecules, by their bonds
    curve: Separations | None = None


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of a complex, alone."""

    indices: tuple[int, ...]  # its atoms in the complex
    atoms: ase.Atoms  # as it is in the complex, with results
    relaxed: ase.Atoms | None  # at its own minimum, with results; None: was not asked for
    nearest: float  # A: from an atom of it to the nearest of all others

    @property
    def deformation(self) -> float | None:
        """eV above its own minimum."""
        if self.relaxed is None:
            return None
        return float(self.atoms.get_potential_energy() - self.relaxed.get_potential_energy())

    @property
    def reacted(self) -> bool:
        """Whether it has other bonds alone than in the complex."""
        return self.relaxed is not None and bool(bonding_changed(self.atoms, self.relaxed))


@dataclass(frozen=True, eq=False)
class Curve:
    """Interaction of two rigid fragments against their distance."""

    along: str  # the line on which they move, one of LINES
    unscaled: float  # A, on the line in the complex
    distances: Array  # A, on the line
    energies: Array  # eV
    contacts: Array  # A, of the two nearest atoms
    frames: list[ase.Atoms]  # with results
    joined: NDArray[np.bool_]  # where there are bonds between the two


@dataclass(frozen=True, eq=False)
class Interaction:
    atoms: ase.Atoms  # the complex, with results
    fragments: tuple[Fragment, ...]
    energy: float  # eV, of the interaction
    cut: list[tuple[int, int]]  # bonds between fragments, which were named
    reacted: bool  # whether the complex has other bonds than it was given with
    cutoff: float | None  # A, of the model; None: it does not say
    curve: Curve | None

    @property
    def deformation(self) -> float | None:
        """eV, of all fragments."""
        energies = [each.deformation for each in self.fragments]
        return None if None in energies else sum(energy for energy in energies if energy is not None)

    @property
    def binding(self) -> float | None:
        """eV: the complex above its fragments at their own minima."""
        return None if self.deformation is None else self.energy + self.deformation


def check(atoms: ase.Atoms, settings: BindSettings) -> None:
    """Refuse what is no complex, or has no such curve.

    Raises:
        ValueError: as `fragments_of` and `separated`.
    """
    fragments = fragments_of(atoms, settings.fragments)
    if settings.curve is not None:
        next(separated(atoms, fragments, settings.curve))


def interactions(
    structures: Sequence[ase.Atoms], engine: Engine, settings: BindSettings | None = None, start: Start | None = None
) -> Iterator[tuple[int, Interaction | Failure]]:
    """The interaction energy of each complex, by its place in the list.

        >>> from ase.build import molecule
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.bind.interaction import interactions
        >>> from atomsml.properties.engine import Engine
        >>> other = molecule("H2O")
        >>> other.translate([0, 0.3, 2.9])
        >>> engine = Engine.of(AtomsMLCalculator("organic-xtb"))
        >>> [(_, waters)] = interactions([molecule("H2O") + other], engine)
        >>> -0.25 < waters.energy < -0.15  # eV, of one of the shallow minima of this model
        True

    Without `start.relax` nothing is relaxed: the complex is taken as it is, and there is no deformation.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    settings, start = settings or BindSettings(), start or Start()
    for atoms in structures:
        check(atoms, settings)
    begun = minima(structures, engine, start) if start.relax else enumerate(engine.evaluate(structures))
    yield from in_parts(
        begun,
        engine,
        begin=lambda index, found: _begin(index, structures[index], found, engine, settings),
        size=lambda each: sum(map(len, each.images)),
        finish=lambda complexes: _finished(engine, complexes, start),
    )


@dataclass(frozen=True, eq=False)
class _Complex:
    """A complex on its way."""

    index: int
    atoms: ase.Atoms  # with results
    fragments: Fragments
    reacted: bool
    separations: Separations | None  # of its curve
    distances: Array  # of its curve, A
    images: list[ase.Atoms]  # its fragments, then its curve

    @property
    def parts(self) -> list[ase.Atoms]:
        return self.images[: len(self.fragments)]


def _begin(index: int, given: ase.Atoms, found: ase.Atoms, engine: Engine, settings: BindSettings) -> _Complex:
    """
    Raises:
        ValueError: no energy, other fragments than before its relaxation, or one that the model was not made for.
    """
    if not np.isfinite(found.get_potential_energy()):
        raise ValueError("has no finite energy by this model; do atoms overlap?")
    fragments = fragments_of(given, settings.fragments)
    if settings.fragments is None and molecules(found) != fragments:
        raise ValueError(
            "its molecules are others once it is relaxed: they reacted; unrelaxed it can be computed as it is"
        )
    parts = [found[list(fragment)] for fragment in fragments]
    for part in parts:
        try:
            check_atoms(part, engine.electronic_state, "the model")
        except ValueError as error:
            raise ValueError(f"its fragment {part.get_chemical_formula()}: {error}") from None
    curve = settings.curve
    points = [] if curve is None else list(separated(found, fragments, curve))
    return _Complex(
        index=index,
        atoms=found,
        fragments=fragments,
        reacted=bool(bonding_changed(given, found)),
        separations=curve,
        distances=np.array([distance for distance, _ in points]),
        images=parts + [image for _, image in points],
    )


def _finished(
    engine: Engine, complexes: Sequence[_Complex], start: Start
) -> Iterator[tuple[int, Interaction | Failure]]:
    """All fragments and all points of all curves together, and all relaxations of fragments."""
    cutoff = None if engine.model.neighbors is None else engine.model.neighbors.cutoff
    images = iter(engine.evaluate([image for each in complexes for image in each.images]))
    parts = [part for each in complexes for part in each.parts] if start.relax else []
    minimal = iter(relaxed_images(parts, engine, start.settings))
    for each in complexes:
        rigid = [next(images) for _ in each.fragments]
        frames = [next(images) for _ in each.distances]
        relaxed = [next(minimal) if start.relax else None for _ in each.fragments]
        try:
            yield each.index, _concluded(each, rigid, relaxed, frames, cutoff)
        except ValueError as error:
            yield each.index, Failure(str(error))


def _concluded(
    each: _Complex,
    rigid: Sequence[ase.Atoms],
    relaxed: Sequence[ase.Atoms | Failure | None],
    frames: list[ase.Atoms],
    cutoff: float | None,
) -> Interaction:
    """
    Raises:
        ValueError: a fragment without an energy or without a minimum, or a point of the curve without an energy.
    """
    fragments = list[Fragment]()
    for indices, part, minimum in zip(each.fragments, rigid, relaxed, strict=True):
        if isinstance(minimum, Failure):
            raise ValueError(f"its fragment {part.get_chemical_formula()} {minimum.reason}")
        fragments.append(Fragment(indices, part, minimum, nearest(each.atoms, indices)[2]))
    alone = sum(float(part.get_potential_energy()) for part in rigid)
    if not np.isfinite(alone):
        raise ValueError("the model gives no finite energy for one of its fragments")
    return Interaction(
        atoms=each.atoms,
        fragments=tuple(fragments),
        energy=float(each.atoms.get_potential_energy()) - alone,
        cut=cut_bonds(each.atoms, each.fragments),
        reacted=each.reacted,
        cutoff=cutoff,
        curve=None if each.separations is None else _curve(each, each.separations, frames, alone),
    )


def _curve(each: _Complex, separations: Separations, frames: list[ase.Atoms], alone: float) -> Curve:
    """
    Raises:
        ValueError: a point without an energy.
    """
    energies = np.array([frame.get_potential_energy() for frame in frames]) - alone
    if not np.isfinite(energies).all():
        where = each.distances[~np.isfinite(energies)][0]
        raise ValueError(f"the model gives no finite energy with its fragments {where:.2f} A apart; do they overlap?")
    contacts = np.array([nearest(frame, each.fragments[0])[2] for frame in frames])
    joined = np.array([bool(cut_bonds(frame, each.fragments)) for frame in frames])
    unscaled = float(each.distances[0]) / separations.start
    return Curve(separations.along, unscaled, each.distances, energies, contacts, frames, joined)
