"""Interatomic potentials: one file per architecture, and the visible dict from which models are built and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atomsml.architectures import Architectures

if TYPE_CHECKING:
    from atomsml.potential import Potential

POTENTIALS: Architectures[Potential] = Architectures(
    "atomsml.potential:Potential",
    "atomsml.potentials",  # packages add theirs by an entry point of this group
    {
        "mace": "atomsml.potentials.mace:MACE",
        "escn": "atomsml.potentials.escn:ESCN",
        "nequip": "atomsml.potentials.nequip:NequIP",
        "facet": "atomsml.potentials.facet:Facet",
        "painn": "atomsml.potentials.painn:PaiNN",
        "egnn": "atomsml.potentials.egnn:EGNN",
        "equiformer_v2": "atomsml.potentials.equiformer_v2:EquiformerV2",
    },
)
