"""What holds the temperature of molecular dynamics: THERMOSTATS, by the names that settings and the command line take.

A new one is a class here and a line in the dict. Those of ASE move the atoms as well. ASE is imported when they start:
the command line reads the dict before it knows whether any does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import ase
    import numpy as np
    from ase.md.md import MolecularDynamics

    from atomsml.simulate.md import MDSettings


class Thermostat(ABC):
    """Draws momenta towards the Maxwell-Boltzmann distribution."""

    about: ClassVar[str]  # for --help

    @abstractmethod
    def dynamics(self, atoms: ase.Atoms, settings: MDSettings, rng: np.random.Generator) -> MolecularDynamics:
        """Moves atoms that have a calculator; forgets momenta within about `settings.thermostat_time`."""


class Langevin(Thermostat):
    """dp = F dt - p / tau dt + sqrt(2 m kB T / tau) dW, where tau is the thermostat time.

    In the BAOAB splitting (Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013), section II).
    Every degree of freedom has its own thermostat, so that stiff and small systems, a single molecule above all, reach
    equipartition, which a global velocity rescaling does not ensure; and for harmonic modes the finite time step leaves
    averages over positions exact.
    """

    about = "friction and noise on every atom, BAOAB"

    def dynamics(self, atoms: ase.Atoms, settings: MDSettings, rng: np.random.Generator) -> MolecularDynamics:
        from ase import units
        from ase.md.langevinbaoab import LangevinBAOAB

        return LangevinBAOAB(
            atoms,
            settings.timestep * units.fs,
            temperature_K=settings.temperature,
            T_tau=settings.thermostat_time * units.fs,
            rng=rng,
            hydrostatic=True,  # says nothing at a fixed cell, but spares a matrix exponential per step
        )


THERMOSTATS: dict[str, Thermostat] = {"langevin": Langevin()}
