"""Coordination: how many neighbours there are within the first shell."""

from __future__ import annotations

import numpy as np

from atomsml.simulate.analysis.findings import Findings
from atomsml.simulate.analysis.motion import Motion
from atomsml.simulate.analysis.rdf import MOST_FRAMES, first_peak, radial_distributions, smoothed


def analyze(motion: Motion) -> Findings:
    """Of each pair of elements the running number of neighbours, and that within the first valley of g."""
    volume = motion.volumes.mean()
    every = -(-len(motion.positions) // MOST_FRAMES)
    r, curves = radial_distributions(motion.positions[::every], motion.cell[::every], motion.numbers)
    elements, counts = np.unique(motion.numbers, return_counts=True)
    of = [counts[j] for i in range(len(elements)) for j in range(i, len(elements))]
    numbers, running = {}, {}
    for (name, g), count in zip(curves.items(), of, strict=True):
        running[name] = running_coordination(r, g, count / volume)
        valley = first_valley(g)
        if valley is not None:
            numbers[f"{name} within [A]"] = float(r[valley])
            numbers[f"{name} neighbours"] = float(running[name][valley])
    if not numbers:
        raise ValueError(f"no first shell ends within {r[-1]:.1f} A: no g(r) has a peak and a valley")
    return Findings(numbers, {"coordination": {"r [A]": r, **{f"n {name}": n for name, n in running.items()}}})


def running_coordination(r: np.ndarray, g: np.ndarray, density: float) -> np.ndarray:
    """(bins,) n_ab(r) = 4 pi rho_b integral of g_ab r^2 dr from 0 to the end of each bin: neighbours b of an atom a.

    Args:
        r: (bins,) A, the middles of bins of equal width from 0 on.
        g: (bins,) g_ab.
        density: of b, 1/A^3.
    """
    width = 2 * r[0]
    shells = 4 / 3 * np.pi * ((r + width / 2) ** 3 - (r - width / 2) ** 3)
    found: np.ndarray = np.cumsum(g * shells) * density
    return found


def first_valley(g: np.ndarray) -> int | None:
    """The bin in which g is lowest between its first peak and where it rises above 1 again; None without these."""
    peak, smooth = first_peak(g), smoothed(g)
    if peak is None:
        return None
    below = np.flatnonzero(smooth[peak:] < 1)
    if not len(below):
        return None
    fall = peak + int(below[0])
    above = np.flatnonzero(smooth[fall:] > 1)
    if not len(above):
        return None
    shell = smooth[fall : fall + int(above[0])]
    lowest = np.flatnonzero(shell == shell.min())  # of a solid all of a gap
    return fall + int(lowest[len(lowest) // 2])
