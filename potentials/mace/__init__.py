"""MACE (Batatia et al., arXiv:2206.07697), its files, and its program for CPUs."""

from atomsml.potentials.mace.model import MACE as MACE
from atomsml.potentials.mace.model import MACEConfig as MACEConfig
