"""eSCN (S. Passaro and C. L. Zitnick, arXiv:2302.03655)."""

from atomsml.potentials.escn.config import ESCNConfig as ESCNConfig
from atomsml.potentials.escn.model import ESCN as ESCN
