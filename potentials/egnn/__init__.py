"""EGNN (Satorras et al., arXiv:2102.09844)."""

from atomsml.potentials.egnn.config import EGNNConfig as EGNNConfig
from atomsml.potentials.egnn.model import EGNN as EGNN
