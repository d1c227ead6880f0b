"""Heat capacities from fluctuations."""

from __future__ import annotations

import numpy as np

from atomsml.simulate.analysis.findings import BLOCKS, Findings, in_blocks
from atomsml.simulate.analysis.motion import Motion
from atomsml.units import GPA, KB

LEAST = 100  # frames


def analyze(motion: Motion) -> Findings:
    """C_V at constant volume, C_P at constant pressure, with their errors."""
    ensemble = motion.settings.get("ensemble")
    if ensemble not in ("nvt", "npt"):
        raise ValueError(
            "energies fluctuate by the heat capacity at constant temperature only, and "
            + ("this run was at constant energy" if ensemble == "nve" else "the file does not say that it was constant")
        )
    if motion.energy is None or motion.temperature is None:
        raise ValueError("the file has no energies with velocities")
    motion.require_frames(LEAST)
    _kept(motion, "temperature")
    energy, kind = motion.energy, "C_V"
    if ensemble == "npt":
        energy, kind = energy + _kept(motion, "pressure") * GPA * motion.volumes, "C_P"
    temperature = float(motion.temperature.mean())
    c, error = heat_capacity(energy, temperature)
    return Findings(
        {
            f"{kind} [eV/K]": c,
            f"error of {kind} [eV/K]": error,
            f"{kind} [kB per atom]": c / KB / len(motion.numbers),
            f"error of {kind} [kB per atom]": error / KB / len(motion.numbers),
            "temperature [K]": temperature,
        },
        {"heat-capacity": {**motion.axis, "energy [eV]" if kind == "C_V" else "enthalpy [eV]": energy}},
    )


def _kept(motion: Motion, name: str) -> float:
    """What the settings say was constant, in their unit.

    Raises:
        ValueError: it was not, or they do not say it.
    """
    try:
        return float(motion.settings[name])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"the file does not say of one {name} that it was kept") from None


def heat_capacity(energy: np.ndarray, temperature: float) -> tuple[float, float]:
    """C = <(E - <E>)^2> / (kB T^2) in eV/K, and its standard error by leaving out one block after the other.

    Args:
        energy: (frames,) eV, potential and kinetic; at constant pressure the enthalpy E + P V.
        temperature: K.
    """
    scale = 1 / (KB * temperature**2)
    blocks = in_blocks(energy)
    without = [np.concatenate(blocks[:i] + blocks[i + 1 :]).var(ddof=1) for i in range(BLOCKS)]
    error = np.sqrt((BLOCKS - 1) / BLOCKS * np.square(without - np.mean(without)).sum())
    return float(energy.var(ddof=1) * scale), float(error * scale)
