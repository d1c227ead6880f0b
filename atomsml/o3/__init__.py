"""Representations of the rotation group: irreps, spherical harmonics, Clebsch-Gordan coefficients, Wigner D."""

from atomsml.o3.clebsch_gordan import clebsch_gordan as clebsch_gordan
from atomsml.o3.irreps import Irreps as Irreps
from atomsml.o3.irreps import IrrepTerm as IrrepTerm
from atomsml.o3.spherical_harmonics import solid_harmonics as solid_harmonics
from atomsml.o3.spherical_harmonics import spherical_harmonics as spherical_harmonics
from atomsml.o3.wigner import wigner_d as wigner_d
