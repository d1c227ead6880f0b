"""Generators of molecules and materials: one file per idea, and the dict from which they are built and loaded."""

from atomsml.generative.edm import EDM
from atomsml.generative.molecule_flow import MoleculeFlow
from atomsml.generative.molecule_model import MoleculeModel

GENERATORS: dict[str, type[MoleculeModel]] = {"flow": MoleculeFlow, "edm": EDM}
