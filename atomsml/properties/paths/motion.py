"""Coordinates in which saddle points are looked for and paths go down, and searches that ask for energies there.

A search is a generator of questions about points; those of many structures are answered together, in few batches.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.properties.engine import Engine
from atomsml.properties.hessian import hessians, moving_atoms
from atomsml.properties.task import Failure

Array = NDArray[np.float64]
Found = TypeVar("Found")

NO_EXTENT = 1e-6  # of the longest: a rotation that moves less, as of a straight molecule about itself, is none


@dataclass(frozen=True, eq=False)
class Question:
    """What is wanted at a point."""

    point: Array  # (3M,) A
    hessian: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known at a point."""

    energy: float  # eV
    gradient: Array  # (3M,) eV/A
    hessian: Array | None  # (3M, 3M) eV/A^2, where it was asked for


Search = Generator[Question, Answer, Found]


class Motion(Protocol):
    """How a structure may move."""

    @property
    def masses(self) -> Array:
        """(3M,) u."""

    def basis(self, point: Array, weights: Array) -> Array:
        """(3M, directions) orthonormal, of the coordinates times `weights`: in which the energy may change."""


@dataclass(frozen=True, eq=False)
class AtomMotion:
    """Of the M atoms of a structure that are not held, without shifts and, of a molecule, without turning."""

    atoms: ase.Atoms
    moving: NDArray[np.int64]  # numbers of the atoms

    @staticmethod
    def of(atoms: ase.Atoms) -> AtomMotion:
        """
        Raises:
            ValueError: as `moving_atoms`.
        """
        return AtomMotion(atoms, moving_atoms(atoms))

    @property
    def masses(self) -> Array:
        return np.repeat(self.atoms.get_masses()[self.moving], 3)

    @property
    def point(self) -> Array:
        """Where the atoms are."""
        found: Array = self.atoms.positions[self.moving].ravel()
        return found

    def at(self, point: Array) -> ase.Atoms:
        """A copy whose atoms are there."""
        copy = self.atoms.copy()
        copy.positions[self.moving] = point.reshape(-1, 3)
        return copy

    def basis(self, point: Array, weights: Array) -> Array:
        size = len(point)
        if len(self.moving) < len(self.atoms):
            return np.eye(size)
        rigid = [np.tile(axis, size // 3) for axis in np.eye(3)]
        if not self.atoms.pbc.any():
            shares = weights[::3, None] ** 2
            arms = point.reshape(-1, 3) - (shares * point.reshape(-1, 3)).sum(axis=0) / shares.sum()
            rigid += [np.cross(axis, arms).ravel() for axis in np.eye(3)]
        u, lengths, _ = np.linalg.svd(weights[:, None] * np.array(rigid).T, full_matrices=True)
        found: Array = u[:, int((lengths > NO_EXTENT * lengths.max()).sum()) :]
        return found


def largest_force(gradient: Array) -> float:
    """eV/A, of an atom."""
    return float(np.linalg.norm(gradient.reshape(-1, 3), axis=1).max())


def bofill(hessian: Array, step: Array, change: Array) -> Array:
    """A Hessian that tells the change of the gradient along a step: between symmetric rank one and Powell's update.

    With r = y - H s and phi = (r.s)^2 / (r.r s.s):  phi r r^T / r.s + (1 - phi) of the latter
    (Bofill, J. Comput. Chem. 15, 1 (1994)).
    """
    rest = change - hessian @ step
    squares, along = step @ step, rest @ step
    if squares == 0 or rest @ rest < 1e-20:
        return hessian
    share = along**2 / (rest @ rest * squares)
    powell = (np.outer(rest, step) + np.outer(step, rest)) / squares - along * np.outer(step, step) / squares**2
    rank_one = along / (rest @ rest * squares) * np.outer(rest, rest)  # phi r r^T / r.s, which may vanish
    return hessian + rank_one + (1 - share) * powell


def together(
    searches: Sequence[tuple[AtomMotion, Search[Found]]], engine: Engine
) -> Iterator[tuple[int, Found | Failure]]:
    """What searches find, by their places in the list, each when it ends; a ValueError of one is its Failure."""
    asked = {i: next(search) for i, (_, search) in enumerate(searches)}
    while asked:
        answers = _answers({i: (searches[i][0], question) for i, question in asked.items()}, engine)
        for i, answer in answers.items():
            del asked[i]
            try:
                if isinstance(answer, Failure):
                    yield i, answer
                else:
                    asked[i] = searches[i][1].send(answer)
            except StopIteration as end:
                yield i, end.value
            except ValueError as error:
                yield i, Failure(str(error))


def _answers(asked: dict[int, tuple[AtomMotion, Question]], engine: Engine) -> dict[int, Answer | Failure]:
    points = [motion.at(question.point) for motion, question in asked.values()]
    curved = [place for place, (_, question) in enumerate(asked.values()) if question.hessian]
    curvatures = {curved[i]: found for i, found in hessians([points[place] for place in curved], engine)}
    answers = dict[int, Answer | Failure]()
    for place, (i, point) in enumerate(zip(asked, engine.evaluate(points), strict=True)):
        energy, forces = point.get_potential_energy(), point.get_forces(apply_constraint=False)
        curvature = curvatures.get(place)
        if isinstance(curvature, Failure):
            answers[i] = curvature
        elif not (np.isfinite(energy) and np.isfinite(forces).all()):
            answers[i] = Failure("came to a place where the model has no finite energy and forces; do atoms overlap?")
        else:
            answers[i] = Answer(energy, -forces[asked[i][0].moving].ravel(), curvature)
    return answers
