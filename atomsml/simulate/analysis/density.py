"""Density and volume."""

from __future__ import annotations

import numpy as np
from ase import units

from atomsml.simulate.analysis.findings import Findings, mean_and_error
from atomsml.simulate.analysis.motion import Motion

GRAM_PER_CM3 = units._amu * 1e3 / 1e-24  # of one u/A^3


def analyze(motion: Motion) -> Findings:
    """Means with errors; the density over time."""
    volumes = motion.volumes
    densities = mass_density(motion.masses, volumes)
    numbers: dict[str, float] = {}
    for name, unit, values in (("density", "g/cm^3", densities), ("volume", "A^3", volumes)):
        mean, error = mean_and_error(values)
        numbers |= {f"{name} [{unit}]": mean, f"error of {name} [{unit}]": error}
    return Findings(numbers, {"density": {**motion.axis, "density [g/cm^3]": densities}})


def mass_density(masses: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """(frames,) g/cm^3 of masses (atoms,) in u and volumes (frames,) in A^3."""
    found: np.ndarray = masses.sum() / volumes * GRAM_PER_CM3
    return found
