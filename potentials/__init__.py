"""Interatomic potentials: one file per architecture, and the visible dict from which models are built and loaded."""

from atomsml.potential import Potential
from atomsml.potentials.egnn import EGNN
from atomsml.potentials.equiformer_v2 import EquiformerV2
from atomsml.potentials.escn import ESCN
from atomsml.potentials.facet import Facet
from atomsml.potentials.mace import MACE
from atomsml.potentials.nequip import NequIP

POTENTIALS: dict[str, type[Potential]] = {
    "mace": MACE,
    "escn": ESCN,
    "nequip": NequIP,
    "facet": Facet,
    "egnn": EGNN,
    "equiformer_v2": EquiformerV2,
}
