"""Generators of molecules and materials: one file per idea, and the visible dict from which they are built and loaded."""

from atomsml.generative.edm import EDM
from atomsml.generative.molecule_model import MoleculeModel

GENERATORS: dict[str, type[MoleculeModel]] = {"edm": EDM}
