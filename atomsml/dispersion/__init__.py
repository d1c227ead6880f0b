"""Grimme's D3 with the damping of Becke and Johnson: dispersion that a semilocal functional, and its model, lacks."""

from atomsml.dispersion.d3 import D3, WithD3
from atomsml.dispersion.functionals import FUNCTIONALS, Cutoffs, Damping

__all__ = ["D3", "FUNCTIONALS", "Cutoffs", "Damping", "WithD3"]
