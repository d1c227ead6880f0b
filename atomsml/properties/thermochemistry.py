"""Thermochemistry: from vibrations to enthalpy, entropy and free energy at a temperature and a pressure.

A molecule is an ideal gas of rigid rotors and harmonic oscillators. Low modes are no oscillators; their entropies are
those of Grimme's interpolation to a free rotor below 100 cm^-1 as well (Chem. Eur. J. 18, 9955 (2012), eqs. 4 to 8). Of
atoms on others that are held all degrees of freedom are vibrations. The sums are ASE's.
"""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.thermochemistry import HarmonicThermo, IdealGasThermo, RRHOMode

from atomsml.properties.vibrations import Vibrations, holds_atoms, is_linear

ROTOR = 100.0  # cm^-1: below that a mode is a rotor rather than an oscillator
TOLERANCE = 0.1  # A: by how much atoms may miss a symmetry


@dataclass(frozen=True)
class Conditions:
    """At what the sums are taken.

    Raises:
        ValueError: a number that makes no sense; says which.
    """

    temperature: float = 298.15  # K
    pressure: float = 1.0  # bar
    multiplicity: int = 1  # of the spin, 2S + 1
    symmetry_number: int | None = None  # None: found

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"the temperature must be a positive number of K, got {self.temperature}")
        if not 0 < self.pressure < np.inf:
            raise ValueError(f"the pressure must be a positive number of bar, got {self.pressure}")
        if self.multiplicity < 1:
            raise ValueError(f"the multiplicity 2S + 1 is 1 or more, got {self.multiplicity}")
        if self.symmetry_number is not None and self.symmetry_number < 1:
            raise ValueError(f"a symmetry number is 1 or more, got {self.symmetry_number}")


@dataclass(frozen=True)
class Thermochemistry:
    """eV, and eV/K, with the potential energy in them."""

    symmetry_number: int | None  # None where atoms are held
    internal_energy: float
    enthalpy: float | None  # None where atoms are held: there is no pressure
    entropy: float
    free_energy: float  # that of Gibbs, or where atoms are held of Helmholtz
    quasi_entropy: float | None  # with low modes as rotors; None where atoms are held
    quasi_free_energy: float | None


def thermochemistry(found: Vibrations, conditions: Conditions) -> Thermochemistry:
    """Of a minimum; imaginary modes are left out."""
    atoms, temperature = found.atoms, conditions.temperature
    potential, energies = atoms.get_potential_energy(), found.energies.tolist()
    if holds_atoms(atoms):
        harmonic = HarmonicThermo(energies, potential)
        entropy = harmonic.get_entropy(temperature, verbose=False)
        internal = harmonic.get_internal_energy(temperature, verbose=False)
        return Thermochemistry(None, internal, None, entropy, internal - temperature * entropy, None, None)
    number = conditions.symmetry_number or symmetry_number(atoms)
    gas = IdealGasThermo(
        energies,
        "monatomic" if len(atoms) == 1 else "linear" if is_linear(atoms) else "nonlinear",
        potential,
        atoms,
        symmetrynumber=number,
        spin=(conditions.multiplicity - 1) / 2,
        vib_selection="all",
    )
    enthalpy = gas.get_enthalpy(temperature, verbose=False)
    entropy = gas.get_entropy(temperature, 1e5 * conditions.pressure, verbose=False)
    quasi = entropy + _rotors(atoms, energies, temperature)
    return Thermochemistry(
        symmetry_number=number,
        internal_energy=gas.get_internal_energy(temperature, verbose=False),
        enthalpy=enthalpy,
        entropy=entropy,
        free_energy=enthalpy - temperature * entropy,
        quasi_entropy=quasi,
        quasi_free_energy=enthalpy - temperature * quasi,
    )


def _rotors(atoms: ase.Atoms, energies: list[float], temperature: float) -> float:
    """eV/K by which the entropy of all modes changes where low ones are rotors."""
    inertia = float(np.mean(atoms.get_moments_of_inertia()))
    change = 0.0
    for energy in energies:
        mode = RRHOMode(energy, inertia, tau=ROTOR)
        oscillator, rotor = mode.get_vib_entropy_contribution(temperature), mode.get_RRHO_entropy_r(temperature)
        change += (rotor - oscillator) / (1 + (mode.frequency / ROTOR) ** 4)
    return change


def symmetry_number(atoms: ase.Atoms) -> int:
    """How many rotations bring a molecule onto itself: 2 of water, 12 of methane."""
    from pymatgen.core import Molecule
    from pymatgen.symmetry.analyzer import PointGroupAnalyzer

    if len(atoms) == 1:
        return 1
    group = PointGroupAnalyzer(Molecule(atoms.get_chemical_symbols(), atoms.positions), tolerance=TOLERANCE)
    if is_linear(atoms):
        return 2 if group.sch_symbol == "D*h" else 1
    return int(group.get_rotational_symmetry_number())
