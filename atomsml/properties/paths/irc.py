"""Intrinsic reaction coordinate: the way of steepest descent from a saddle point, in mass-weighted coordinates.

With q = sqrt(m) x, gradient g and Hessian H there, each step follows dq/dt = -g(q) on the quadratic surface about the
last point: q_i(t) = q_i + (exp(-h_i t) - 1) g_i / h_i in the eigenvectors of H, as far as the length of a step (Page
and McIver, J. Chem. Phys. 88, 922 (1988)). H is exact at every EXACT_EVERY-th point, and
updated by the gradients between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import cumulative_trapezoid

from atomsml.properties.paths.motion import Array, Motion, Question, Search, bofill, largest_force
from atomsml.properties.paths.saddle import Saddle

EXACT_EVERY = 10  # points
NOISE = 1e-4  # eV, of a network in float32: an energy that rises by no more
TIMES = 1000  # points at which the length of a piece is summed up
FLAT = 1e-12  # of an eigenvalue that is taken as zero


@dataclass(frozen=True, eq=False)
class Way:
    """Points from a saddle point, which is the first, down to where forces are small."""

    points: list[Array]  # (3M,) A
    lengths: Array  # sqrt(u) A, of the way to each
    energies: Array  # eV
    ended: bool  # where it became flat, rose, or came near a minimum; False: it had no more points


def descend(saddle: Saddle, motion: Motion, mode: Array, step: float, points: int, fmax: float) -> Search[Way]:
    """Down from a saddle point.

    Args:
        mode: (3M,) the mass-weighted direction, of length 1, in which the way begins.
        step: sqrt(u) A, between points.
        points: at most.
        fmax: eV/A: ends where no force is larger, beyond the steepest place.
    """
    weights = np.sqrt(motion.masses)
    here, hessian = weights * saddle.point, saddle.hessian / np.outer(weights, weights)
    found, lengths, energies = [saddle.point], [0.0], [saddle.energy]
    slope, way, force = np.zeros_like(here), step * mode, 0.0
    for number in range(1, points + 1):
        answer = yield Question((here + way) / weights, hessian=number % EXACT_EVERY == 0)
        if answer.energy > energies[-1] + NOISE:
            return Way(found, np.array(lengths), np.array(energies), True)
        here = here + way
        found.append(here / weights)
        lengths.append(lengths[-1] + float(np.linalg.norm(way)))
        energies.append(answer.energy)
        before, force = force, largest_force(answer.gradient)
        if force <= min(fmax, before):  # it is small at the saddle point as well, and grows from there
            return Way(found, np.array(lengths), np.array(energies), True)
        last, slope = slope, answer.gradient / weights
        if answer.hessian is None:
            hessian = bofill(hessian, way, slope - last)
        else:
            hessian = answer.hessian / np.outer(weights, weights)
        basis = motion.basis(here / weights, weights)
        way = basis @ steepest(basis.T @ slope, basis.T @ hessian @ basis, step)
    return Way(found, np.array(lengths), np.array(energies), False)


def steepest(gradient: Array, hessian: Array, length: float) -> Array:
    """The way of steepest descent on a quadratic surface, so long, or to its minimum where that is nearer."""
    values, vectors = np.linalg.eigh(hessian)
    values = np.where(np.abs(values) < FLAT, FLAT, values)
    slopes = vectors.T @ gradient
    end = length / np.linalg.norm(slopes)
    while True:
        times = np.linspace(0, end, TIMES)
        speeds = np.linalg.norm(slopes[:, None] * np.exp(-values[:, None] * times), axis=0)
        lengths = cumulative_trapezoid(speeds, times, initial=0)
        if lengths[-1] >= length or speeds[-1] < 1e-3 * speeds[0]:
            break
        end *= 2
    time = np.interp(length, lengths, times)
    found: Array = vectors @ (np.expm1(-values * time) * slopes / values)
    return found
