"""Saddle points by partitioned rational functions: up along one mode of the Hessian, down along all others.

In the eigenvectors of the Hessian, with eigenvalues b and gradient components g, the step is g_i / (L - b_i) where L
is, for the mode that is followed, the upper root of L (L - b_k) = g_k^2, and for the others the lowest root of
L = sum_i g_i^2 / (L - b_i) (Banerjee, Adams, Simons and Shepard, J. Phys. Chem. 89, 52 (1985); Baker, J. Comput. Chem.
7, 385 (1986)). It is no longer than a radius that grows where the energy changes as expected, and shrinks where not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atomsml.properties.paths.motion import Answer, Array, Motion, Question, Search, bofill, largest_force

FIRST_RADIUS, SMALLEST_RADIUS, LARGEST_RADIUS = 0.1, 0.01, 0.3  # A, of a step of all atoms
AS_EXPECTED, NOT_AT_ALL = 0.25, 0.75  # by how much what is gained differs from what was expected, of that
TOO_SMALL = 1e-4  # eV: changes of the energy that tell nothing
EXACT_EVERY = 10  # steps after which a Hessian is computed anew instead of being updated
CURVED = 0.01  # eV/A^2: eigenvalues that are no lower than minus this are not negative, by the noise of differences
KICK = 0.1  # A: along a second mode that leads down


@dataclass(frozen=True, eq=False)
class Saddle:
    """A stationary point with one direction that leads down."""

    point: Array  # (3M,) A
    energy: float  # eV
    gradient: Array  # eV/A
    hessian: Array  # eV/A^2, exact
    steps: int
    hessians: int  # how many were computed


def find_saddle(
    start: Array, motion: Motion, fmax: float, steps: int, direction: Array | None = None
) -> Search[Saddle]:
    """The saddle point to which a mode leads: at first the lowest, or that which is most along the direction.

    Raises:
        ValueError: none is found within so many steps, or a minimum instead.
    """
    point, weights = start, np.ones_like(start)
    answer = yield Question(point, hessian=True)
    hessian, radius, age, computed = _exact(answer), FIRST_RADIUS, 0, 1
    for step_number in range(steps + 1):
        basis = motion.basis(point, weights)
        gradient = basis @ (basis.T @ answer.gradient)
        stationary = largest_force(gradient) <= fmax
        if (stationary and age > 0) or age >= EXACT_EVERY:
            answer = yield Question(point, hessian=True)
            hessian, age, computed = _exact(answer), 0, computed + 1
        values, vectors = np.linalg.eigh(basis.T @ hessian @ basis)
        modes = basis @ vectors
        followed = 0 if direction is None else int(np.abs(modes.T @ direction).argmax())
        direction = modes[:, followed]
        if stationary:
            negative = int((values < -CURVED).sum())
            if negative == 1:
                return Saddle(point, answer.energy, answer.gradient, hessian, step_number, computed)
            if negative == 0:
                raise ValueError(
                    "the search ended at a minimum: no direction leads down; give a guess nearer to the top"
                )
            step = KICK * modes[:, 1 if followed == 0 else 0]
        else:
            step = _step(values, modes, modes.T @ gradient, followed)
            step *= min(1.0, radius / float(np.linalg.norm(step)))
        before, expected = answer, gradient @ step + step @ hessian @ step / 2
        point = point + step
        answer = yield Question(point)
        radius = _radius(radius, answer.energy - before.energy, float(expected), float(np.linalg.norm(step)))
        hessian, age = bofill(hessian, step, answer.gradient - before.gradient), age + 1
    raise ValueError(
        f"no saddle point was found: after {steps} steps a force is {largest_force(gradient):.4f} eV/A, where {fmax:g} "
        "are asked; allow more steps, or give a guess nearer to it"
    )


def _exact(answer: Answer) -> Array:
    assert answer.hessian is not None
    return answer.hessian


def _step(values: Array, modes: Array, slopes: Array, followed: int) -> Array:
    """(3M,) up along the followed mode and down along the others."""
    up = (values[followed] + np.hypot(values[followed], 2 * slopes[followed])) / 2
    others = np.arange(len(values)) != followed
    lengths = np.zeros_like(values)
    lengths[followed] = slopes[followed] / (up - values[followed]) if slopes[followed] != 0 else 0
    if others.any():
        matrix = np.diag(np.append(values[others], 0.0))
        matrix[-1, :-1] = matrix[:-1, -1] = slopes[others]
        down = np.linalg.eigvalsh(matrix)[0]
        apart = np.minimum(down - values[others], -1e-8)
        lengths[others] = slopes[others] / apart
    return modes @ lengths


def _radius(radius: float, gained: float, expected: float, length: float) -> float:
    """The next one."""
    if abs(expected) < TOO_SMALL:
        return radius
    off = abs(gained / expected - 1)
    if off > NOT_AT_ALL:
        return max(radius / 2, SMALLEST_RADIUS)
    return min(radius * np.sqrt(2), LARGEST_RADIUS) if off < AS_EXPECTED and length > 0.8 * radius else radius
