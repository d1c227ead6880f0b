"""How the atoms of each ensemble move: INTEGRATORS, by the names that settings and the command line take.

A new one is a class here and a line in the dict; ASE is imported when it runs, as by thermostats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from atomsml.simulate.thermostats import THERMOSTATS

if TYPE_CHECKING:
    import ase
    import numpy as np
    from ase.md.md import MolecularDynamics

    from atomsml.simulate.md import MDSettings


class Integrator(ABC):
    """Steps of molecular dynamics in one ensemble."""

    about: ClassVar[str]  # for --help
    holds_temperature: ClassVar[bool]  # by a thermostat; otherwise the total energy is conserved

    @abstractmethod
    def dynamics(self, atoms: ase.Atoms, settings: MDSettings, rng: np.random.Generator) -> MolecularDynamics:
        """Moves atoms that have a calculator and momenta."""


class ConstantEnergy(Integrator):
    """Velocity Verlet: p += F dt / 2, x += p / m dt, p += F dt / 2 (Swope et al., J. Chem. Phys. 76, 637 (1982))."""

    about = "constant energy, velocity Verlet"
    holds_temperature = False

    def dynamics(self, atoms: ase.Atoms, settings: MDSettings, rng: np.random.Generator) -> MolecularDynamics:
        from ase import units
        from ase.md.verlet import VelocityVerlet

        return VelocityVerlet(atoms, settings.timestep * units.fs)


class ConstantTemperature(Integrator):
    """What the thermostat of the settings does."""

    about = "constant temperature, by --thermostat"
    holds_temperature = True

    def dynamics(self, atoms: ase.Atoms, settings: MDSettings, rng: np.random.Generator) -> MolecularDynamics:
        return THERMOSTATS[settings.thermostat].dynamics(atoms, settings, rng)


INTEGRATORS: dict[str, Integrator] = {"nve": ConstantEnergy(), "nvt": ConstantTemperature()}
