"""What properties share: they begin at minima, ask for many images of each structure at once, and conclude.

Task.images(minimum)  ->  all images of all structures in few batches  ->  Task.result(minimum, images)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Generic, TypeVar

import ase
import numpy as np

from atomsml.properties.engine import Engine
from atomsml.simulate.relax import Relaxation, RelaxSettings
from atomsml.units import GPA

Result = TypeVar("Result")
Given = TypeVar("Given")
Begun = TypeVar("Begun")

MOST_WAITING = 20_000  # atoms of images that wait to be evaluated together


@dataclass(frozen=True)
class Failure:
    """Why there is no result for a structure, in one line."""

    reason: str


@dataclass(frozen=True)
class Standing:
    """What a property that takes long tells of a structure on its way."""

    words: str


@dataclass(frozen=True)
class Start:
    """How a structure comes to the minimum at which a property begins.

    Raises:
        ValueError: as RelaxSettings.
    """

    fmax: float = 0.005  # eV/A: no force is larger, nor, of a free cell, V stress / atoms (eV)
    steps: int = 500  # of the relaxation
    cell: bool = False  # whether cells are relaxed as well
    relax: bool = True  # False: the structures must be minima as they are given
    symmetry: float | None = None  # A: a relaxation keeps the space group that is found within this tolerance

    def __post_init__(self) -> None:
        _ = self.settings

    @property
    def settings(self) -> RelaxSettings:
        return RelaxSettings(self.fmax, self.steps, cell=self.cell, symmetry=self.symmetry)


class Task(ABC, Generic[Result]):
    """A property that follows from energies, forces and stresses of images of a structure at its minimum."""

    stress: ClassVar[bool] = False  # whether it needs that of images
    relaxed: RelaxSettings | None = None  # how images are relaxed; None: they are evaluated as they are

    @abstractmethod
    def images(self, minimum: ase.Atoms) -> list[ase.Atoms]:
        """Structures of which the property is made.

        Raises:
            ValueError: the structure does not suit; says why, in one line.
        """

    @abstractmethod
    def result(self, minimum: ase.Atoms, images: Sequence[ase.Atoms]) -> Result:
        """What follows from the images, which have results now; so has `minimum`.

        Raises:
            ValueError: nothing does; says why, in one line.
        """


def minima(structures: Sequence[ase.Atoms], engine: Engine, start: Start) -> Iterator[tuple[int, ase.Atoms | Failure]]:
    """Copies of the structures at their minima, with their results, by their places in the list, each when it is there.

    Without `start.relax` they are evaluated as they are, and fail where a force is larger than `start.fmax`.
    """
    if start.relax:
        for each in engine.relax(structures, start.settings):
            yield each.index, found_minimum(each, start.fmax)
        return
    for index, atoms in enumerate(engine.evaluate(structures, stress=start.cell)):
        reason = _not_minimal(atoms, start)
        yield index, atoms if reason is None else Failure(reason)


def _not_minimal(atoms: ase.Atoms, start: Start) -> str | None:
    """Why the atoms, which have results, are not at a minimum; None where they are."""
    force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())  # what constraints leave
    if not np.isfinite(force):
        return "has no finite energy and forces by this model; do atoms overlap?"
    if force > start.fmax:
        return f"is no minimum of this model: a force is {force:.4f} eV/A, more than {start.fmax:g}; let it be relaxed"
    if not start.cell:
        return None
    stress = np.abs(atoms.get_stress(voigt=False))
    if stress.max() * atoms.get_volume() / len(atoms) > start.fmax:
        return f"is not at rest in its cell: a stress is {stress.max() / GPA:.3f} GPa; let the cell be relaxed"
    return None


def measure(
    structures: Sequence[ase.Atoms], engine: Engine, start: Start, task: Task[Result]
) -> Iterator[tuple[int, Result | Failure]]:
    """What the task finds of each structure, by its place in the list; images of several are evaluated together."""

    def begin(index: int, minimum: ase.Atoms) -> tuple[int, ase.Atoms, list[ase.Atoms]]:
        return index, minimum, task.images(minimum)

    def size(begun: tuple[int, ase.Atoms, list[ase.Atoms]]) -> int:
        return sum(map(len, begun[2]))

    yield from in_parts(minima(structures, engine, start), engine, begin, size, partial(_concluded, engine, task))


def in_parts(
    given: Iterable[tuple[int, Given | Failure]],
    engine: Engine,
    begin: Callable[[int, Given], Begun],
    size: Callable[[Begun], int],
    finish: Callable[[list[Begun]], Iterator[tuple[int, Result | Failure]]],
) -> Iterator[tuple[int, Result | Failure]]:
    """Begin what is given, and finish some together once they have enough atoms to fill the engine.

    Args:
        given: by places in a list; failures go through.
        begin: raises a ValueError for what fails.
        size: atoms that are to be evaluated of it.
    """
    waiting, atoms = list[Begun](), 0
    for index, each in given:
        if isinstance(each, Failure):
            yield index, each
            continue
        try:
            waiting.append(begin(index, each))
        except ValueError as error:
            yield index, Failure(str(error))
            continue
        atoms += size(waiting[-1])
        if atoms >= min(engine.room.atoms, MOST_WAITING):
            yield from finish(waiting)
            waiting, atoms = [], 0
    yield from finish(waiting)


def _concluded(
    engine: Engine, task: Task[Result], asked: Sequence[tuple[int, ase.Atoms, list[ase.Atoms]]]
) -> Iterator[tuple[int, Result | Failure]]:
    images = [image for _, _, some in asked for image in some]
    if task.relaxed is None:
        found: Iterator[ase.Atoms | Failure] = iter(engine.evaluate(images, task.stress))
    else:
        found = iter(relaxed_images(images, engine, task.relaxed))
    for index, minimum, some in asked:
        own = [next(found) for _ in some]
        try:
            yield index, task.result(minimum, _all_found(own))
        except ValueError as error:
            yield index, Failure(str(error))


def _all_found(images: Sequence[ase.Atoms | Failure]) -> list[ase.Atoms]:
    """
    Raises:
        ValueError: an image has no energy, or found no minimum.
    """
    found = list[ase.Atoms]()
    for image in images:
        if isinstance(image, Failure):
            raise ValueError(f"a changed copy of it {image.reason}")
        if not np.isfinite(image.get_potential_energy()):
            raise ValueError("the model gives no finite energy for a changed copy of it")
        found.append(image)
    return found


def relaxed_images(images: Sequence[ase.Atoms], engine: Engine, settings: RelaxSettings) -> list[ase.Atoms | Failure]:
    """Images at their minima, in their order; stress is there where the cell was relaxed."""
    found = {each.index: each for each in engine.relax(images, settings)}
    return [found_minimum(found[i], settings.fmax) for i in range(len(images))]


def relaxed_groups(
    groups: Mapping[int, Sequence[ase.Atoms]], engine: Engine, settings: RelaxSettings
) -> Iterator[tuple[int, list[Relaxation]]]:
    """Structures that belong together, relaxed with all others, each group as soon as the last of it is done."""
    owners = [(key, place) for key, group in groups.items() for place in range(len(group))]
    done: dict[int, dict[int, Relaxation]] = {key: {} for key in groups}
    for each in engine.relax([atoms for group in groups.values() for atoms in group], settings):
        key, place = owners[each.index]
        done[key][place] = each
        if len(done[key]) == len(groups[key]):
            yield key, [done[key][i] for i in range(len(groups[key]))]


def found_minimum(each: Relaxation, fmax: float) -> ase.Atoms | Failure:
    """The relaxed atoms, or why they are at no minimum."""
    state = each.state
    if state.converged:
        return each.atoms
    if not np.isfinite(state.energy):
        return Failure("has no finite energy and forces by this model; do atoms overlap?")
    stress = "" if state.stress is None else f" and a stress of {state.stress:.3f} GPa"
    return Failure(
        f"found no minimum: {state.reason} after {state.step} steps with a force of {state.fmax:.4f} eV/A{stress}, "
        f"where {fmax:g} eV/A are asked; allow more steps, or a larger fmax"
    )
