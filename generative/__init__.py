"""Generators: one folder for each kind of thing generated, and the dict from which they are built and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atomsml.architectures import Architectures

if TYPE_CHECKING:
    from atomsml.generative.core.generator import Generator

GENERATORS: Architectures[Generator[Any, Any, Any]] = Architectures(
    "atomsml.generative.core.generator:Generator",
    "atomsml.generators",  # packages add theirs by an entry point of this group
    {
        "flow": "atomsml.generative.molecules.flow.model:MoleculeFlow",
        "graph-flow": "atomsml.generative.molecules.graph_flow.model:GraphFlow",
        "edm": "atomsml.generative.molecules.edm.model:EDM",
        "graphs": "atomsml.generative.graphs.model:GraphModel",
        "backbone-diffusion": "atomsml.generative.proteins.diffusion:BackboneDiffusion",
        "backbone-flow": "atomsml.generative.proteins.flow:BackboneFlow",
        "symphony": "atomsml.generative.molecules.symphony.model:Symphony",
    },
)
