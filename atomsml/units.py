"""Units of the project and the factors that lead to them, taken from ase.units (CODATA 2014) so that both always agree.

Energies are in eV, lengths in Angstrom, masses in atomic mass units, charges in e, temperatures in K and pressures in
eV/A^3. Interfaces give times in fs; inside an integrator the unit of time is A sqrt(u/eV), about 10.18 fs, because
there force / mass is an acceleration without any factor. Multiply by a constant to come in, divide to go out:
`pressure = 5 * GPA` is 5 GPa in eV/A^3, and `pressure / GPA` is 5 again.
"""

from __future__ import annotations

from typing import Final

from ase import units

KB: Final[float] = units.kB
"""Boltzmann constant, eV/K."""

HBAR: Final[float] = units._hbar * units.J * units.s
"""Reduced Planck constant, eV times the internal unit of time."""

GPA: Final[float] = units.GPa
"""One gigapascal in eV/A^3."""

HARTREE: Final[float] = units.Hartree
"""One hartree in eV."""

KCAL: Final[float] = units.kcal / units.mol
"""One kcal/mol in eV."""

BOHR: Final[float] = units.Bohr
"""One bohr in Angstrom."""

KJ_PER_MOL: Final[float] = units.kJ / units.mol
"""One kilojoule per mole in eV."""

FS: Final[float] = units.fs
"""One femtosecond in the internal unit of time, A sqrt(u/eV)."""

JOULE_PER_SQUARE_METRE: Final[float] = units.J / units.m**2
"""One joule per square metre in eV/A^2."""
