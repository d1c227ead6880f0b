"""The autocorrelation of velocities, and the vibrational density of states."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.fft import dct

from atomsml.simulate.analysis.findings import Findings
from atomsml.simulate.analysis.motion import Motion
from atomsml.simulate.analysis.msd import autocorrelation

LEAST = 20  # frames
LONGEST = 5000.0  # fs: the lag that is used at most; it sets the resolution, 1 / (2 lag)
PER_CM = 1e15 / 2.99792458e10  # of 1/fs
FASTEST = 4000.0  # cm^-1: what hydrogen does; other elements do less by the root of their masses


def analyze(motion: Motion) -> Findings:
    """The density of states against the wave number, and where it is highest."""
    if motion.velocities is None:
        raise ValueError("the file has no velocities; write them, or use the .h5 file of the run")
    motion.require_one_replica()
    motion.require_frames(LEAST)
    spacing = float(motion.times[1])
    limit = PER_CM / (2 * spacing)
    fastest = FASTEST / np.sqrt(motion.masses.min())
    if limit < fastest:
        warnings.warn(
            f"{motion.name}: frames every {spacing:g} fs tell motions up to {limit:.0f} cm^-1; faster ones appear "
            f"among these; write a frame every {PER_CM / (2 * fastest):.0f} fs",
            stacklevel=2,
        )
    vacf = velocity_autocorrelation(motion.velocities, motion.masses)
    lags = min(len(vacf) // 2, int(LONGEST / spacing)) + 1
    wave_numbers, states = density_of_states(vacf[:lags], spacing)
    numbers = {
        "highest at [cm^-1]": float(wave_numbers[states.argmax()]),
        "mean [cm^-1]": float((wave_numbers * states).sum() / states.sum()),
        "resolution [cm^-1]": PER_CM / (2 * (lags - 1) * spacing),
    }
    return Findings(
        numbers,
        {
            "vdos": {"wave number [cm^-1]": wave_numbers, "density of states [cm]": states},
            "vacf": {"lag [fs]": motion.times[:lags], "VACF": vacf[:lags] / vacf[0]},
        },
    )


def velocity_autocorrelation(velocities: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """(frames,) the sum over atoms of m <v(t + lag) v(t)>, by lag.

    Args:
        velocities: (frames, atoms, 3).
        masses: (atoms,).
    """
    found: np.ndarray = np.einsum("a,fax->f", masses, autocorrelation(velocities))
    return found


def density_of_states(vacf: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers (lags,) in cm^-1 and the density of states there in cm, whose integral is 1.

    The cosine transform of the autocorrelation (Dickey and Paskin, Phys. Rev. 188, 1407 (1969)), under half a Hann
    window, without which the end of the series would ring.

    Args:
        vacf: (lags,) by lag.
        spacing: fs from lag to lag.
    """
    window = 0.5 * (1 + np.cos(np.pi * np.arange(len(vacf)) / (len(vacf) - 1)))
    spectrum = dct(vacf * window, type=1)
    wave_numbers = np.arange(len(vacf)) / (2 * (len(vacf) - 1) * spacing) * PER_CM
    return wave_numbers, spectrum / np.trapezoid(spectrum, wave_numbers)
