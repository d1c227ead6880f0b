"""Interatomic potentials: one file per architecture, and the visible dict from which models are built and loaded."""

from atomsml.potential import Potential
from atomsml.potentials.mace import MACE

POTENTIALS: dict[str, type[Potential]] = {
    "mace": MACE,
}
