"""Generators of molecules and materials: one file per idea, and the dict from which they are built and loaded."""

from atomsml.generative.molecules.edm.model import EDM
from atomsml.generative.molecules.flow.model import MoleculeFlow
from atomsml.generative.molecules.model import MoleculeModel

GENERATORS: dict[str, type[MoleculeModel]] = {"flow": MoleculeFlow, "edm": EDM}
