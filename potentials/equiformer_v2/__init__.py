"""EquiformerV2 (Liao et al., arXiv:2306.12059)."""

from atomsml.potentials.equiformer_v2.config import EquiformerV2Config as EquiformerV2Config
from atomsml.potentials.equiformer_v2.model import EquiformerV2 as EquiformerV2
