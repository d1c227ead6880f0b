"""NequIP (Batzner et al., arXiv:2101.03164), and SevenNet's files."""

from atomsml.potentials.nequip.model import NEQUIP as NEQUIP
from atomsml.potentials.nequip.model import NequIP as NequIP
from atomsml.potentials.nequip.model import NequIPConfig as NequIPConfig
