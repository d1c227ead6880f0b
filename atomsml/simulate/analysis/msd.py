"""Mean square displacements, and diffusion by Einstein's relation."""

from __future__ import annotations

import warnings

import numpy as np
from ase.data import chemical_symbols
from scipy.fft import next_fast_len

from atomsml.simulate.analysis.findings import BLOCKS, Findings, in_blocks
from atomsml.simulate.analysis.motion import Motion, fractions, lattices

LAGS = (0.1, 0.5)  # parts of a length between which lines are laid
LEAST = 20  # frames in a block
STAYS = 0.5  # a lower power of time is no diffusion, even allowing for noise: there is no D
PER_PS = 1000.0  # fs
CM2_PER_S = 1e-4  # of one A^2/ps


def analyze(motion: Motion) -> Findings:
    """Of each element by which power of time the displacement grows, and D with its error, unless atoms stay."""
    motion.require_one_replica()
    motion.require_frames(BLOCKS * LEAST)
    times = motion.times
    positions = without_drift(motion)
    numbers, curves = {}, {"time [fs]": times[: len(times) // 2 + 1]}
    for number in np.unique(motion.numbers):
        name, of = chemical_symbols[number], positions[:, motion.numbers == number]
        d, error, power = diffusion(of, motion.times[1])
        numbers[f"power of time {name}"] = power
        if power < STAYS:
            warnings.warn(f"{motion.name}: {name} does not diffuse in this time, it has no D", stacklevel=2)
        else:
            numbers[f"D {name} [A^2/ps]"] = d
            numbers[f"error of D {name} [A^2/ps]"] = error
            numbers[f"D {name} [1e-5 cm^2/s]"] = d * CM2_PER_S / 1e-5
        curves[f"MSD {name} [A^2]"] = mean_square_displacement(of)[: len(times) // 2 + 1]
    return Findings(numbers, {"msd": curves})


def without_drift(motion: Motion) -> np.ndarray:
    """(frames, atoms, 3) A in the mean cell, the centre of mass at rest: what a barostat does is no motion."""
    mean = lattices(motion.cell, motion.pbc).mean(axis=0)
    positions: np.ndarray = fractions(motion.positions, motion.cell, motion.pbc) @ mean
    centre = np.einsum("a,fax->fx", motion.masses, positions) / motion.masses.sum()
    return positions - centre[:, None]


def mean_square_displacement(positions: np.ndarray) -> np.ndarray:
    """(frames,) A^2: the mean of |x(t + lag) - x(t)|^2 over atoms and all t, by lag.

    As |x(t + lag)|^2 + |x(t)|^2 - 2 x(t + lag) x(t), whose last term is a correlation by Fourier transforms (Calandrini
    et al., Collection SFN 12, 201 (2011), section 4.3).

    Args:
        positions: (frames, atoms, 3) A, not wrapped.
    """
    frames = len(positions)
    x = positions - positions.mean(axis=0)  # smaller numbers
    products = autocorrelation(x).sum(axis=(1, 2))
    squares = np.square(x).sum(axis=(1, 2))
    # sum of squares[lag:] and of squares[: frames - lag]
    sums = np.concatenate([[0.0], np.cumsum(squares)])
    both = (sums[frames] - sums[:frames]) + sums[frames - np.arange(frames)]
    found: np.ndarray = (both / (frames - np.arange(frames)) - 2 * products) / positions.shape[1]
    return np.maximum(found, 0)


def autocorrelation(x: np.ndarray) -> np.ndarray:
    """The mean of x(t + lag) x(t) over all t, by lag, along the first axis."""
    frames = len(x)
    size = next_fast_len(2 * frames, real=True)
    power = np.abs(np.fft.rfft(x, size, axis=0)) ** 2
    terms = (frames - np.arange(frames)).reshape(-1, *[1] * (x.ndim - 1))
    found: np.ndarray = np.fft.irfft(power, size, axis=0)[:frames] / terms
    return found


def diffusion(positions: np.ndarray, spacing: float) -> tuple[float, float, float]:
    """D = MSD / (6 lag) by a straight line, A^2/ps; its standard error; and by which power of the lag the MSD grows.

    D is the mean over BLOCKS blocks, of each of which the lags between LAGS of its length are taken: long lags have few
    independent displacements. The power is that of the lags between LAGS of the whole length: 1 where atoms diffuse, 2
    where they fly, and near 0 where they stay and D means nothing.

    Args:
        positions: (frames, atoms, 3) A, not wrapped.
        spacing: fs between frames.
    """
    curves = np.array([mean_square_displacement(block) for block in in_blocks(positions)])
    lags = _lags(curves.shape[1])
    slopes = np.polyfit(lags * spacing / PER_PS, curves[:, lags].T, 1)[0]
    lags = _lags(len(positions))
    whole = mean_square_displacement(positions)[lags]
    power = np.polyfit(np.log(lags), np.log(whole), 1)[0] if (whole > 0).all() else 0.0
    return float(slopes.mean() / 6), float(slopes.std(ddof=1) / np.sqrt(len(slopes)) / 6), float(power)


def _lags(frames: int) -> np.ndarray:
    return np.arange(int(LAGS[0] * frames), int(LAGS[1] * frames) + 1)
