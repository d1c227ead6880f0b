"""How strongly D3 is damped, which depends on the functional that it goes with.

The parameters are fits of S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011), and of the papers of the
functionals, as the package s-dftd3 has them. Those of double hybrids are left out: no model here learns one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atomsml.config import choose


@dataclass(frozen=True)
class Damping:
    """E = - sum over pairs of s6 C6 / (r^6 + f^6) + s8 C8 / (r^8 + f^8), where f = a1 sqrt(C8 / C6) + a2."""

    s8: float
    a1: float
    a2: float  # bohr
    s6: float = 1.0


@dataclass(frozen=True)
class Cutoffs:
    """Where the sums end, in bohr: those of s-dftd3."""

    pairs: float = 60.0
    coordination: float = 40.0
    triples: float = 40.0

    def __post_init__(self) -> None:
        if not all(0 < x < float("inf") for x in (self.pairs, self.coordination, self.triples)):
            raise ValueError(f"the cutoffs of D3 must be positive numbers of bohr, not {self}")


FUNCTIONALS = {
    # GGA
    "pbe": Damping(0.7875, 0.4289, 4.4407),
    "revpbe": Damping(2.355, 0.5238, 3.5016),
    "rpbe": Damping(0.8318, 0.182, 4.0094),
    "pbesol": Damping(2.9491, 0.4466, 6.1742),
    "pw91": Damping(1.9598, 0.6319, 4.5718),
    "blyp": Damping(2.6996, 0.4298, 4.2359),
    "bp": Damping(3.2822, 0.3946, 4.8516),
    "bpbe": Damping(4.0728, 0.4567, 4.3908),
    "olyp": Damping(2.6205, 0.5299, 2.8065),
    "rpw86pbe": Damping(1.3845, 0.4613, 4.5062),
    "b97d": Damping(2.2609, 0.5545, 3.2297),
    "b973c": Damping(1.5, 0.37, 4.1),
    # meta-GGA
    "tpss": Damping(1.9435, 0.4535, 4.4752),
    "revtpss": Damping(1.4023, 0.4426, 4.4723),
    "scan": Damping(0.0, 0.538, 5.42),
    "rscan": Damping(1.08859014, 0.47023427, 5.73408312),
    "r2scan": Damping(0.78981345, 0.49484001, 5.73083694),
    "b97m": Damping(0.1384, -0.078, 5.5946),
    "mn12l": Damping(2.2674, 0.0, 9.1494),
    # hybrid
    "pbe0": Damping(1.2177, 0.4145, 4.8593),
    "revpbe0": Damping(1.7588, 0.4679, 3.7619),
    "b3lyp": Damping(1.9889, 0.3981, 4.4211),
    "b3pw91": Damping(2.8524, 0.4312, 4.4693),
    "bhlyp": Damping(1.0354, 0.2793, 4.9615),
    "pw6b95": Damping(0.7257, 0.2076, 6.375),
    "tpss0": Damping(1.2576, 0.3768, 4.5865),
    "tpssh": Damping(2.2382, 0.4529, 4.655),
    "r2scanh": Damping(1.1236, 0.4709, 5.9157),
    "r2scan0": Damping(1.1846, 0.4534, 5.8972),
    "r2scan50": Damping(1.3294, 0.4311, 5.924),
    "pbeh3c": Damping(0.0, 0.486, 4.5),
    # range-separated hybrid
    "hse03": Damping(1.1243, 0.0, 6.8889),
    "hse06": Damping(2.31, 0.383, 5.685),
    "hsesol": Damping(2.9215, 0.465, 6.2003),
    "camb3lyp": Damping(2.0674, 0.3708, 5.4743),
    "lcwpbe": Damping(1.8541, 0.3919, 5.0897),
    "wb97x": Damping(0.2641, 0.0, 5.4959),
    "wb97m": Damping(0.3908, 0.566, 3.128),
    # Hartree-Fock
    "hf": Damping(0.9171, 0.3385, 2.883),
    "hf3c": Damping(0.8777, 0.4171, 2.9149),
}
OTHER_NAMES = {"bp86": "bp", "bhandhlyp": "bhlyp", "pbeh": "pbe0"}
THREE_BODY = "+atm"  # after the name of a functional


# what levels of theory are called that have dispersion already
DISPERSED = re.compile(r"D[234]|XTB|GFN|VV10|VDW|MBD|XDM|DFTB3|-V\b|-D\b|3C\b|OPTB8", re.IGNORECASE)


def doubts_about(words: str, theory: str) -> str:
    """Why D3 should not be added to a model that learned a level of theory, such as "PBE(+U)"; "" if nothing tells."""
    name = damping_of(words)[0]
    learned = re.split(r"[^a-z0-9]", theory.lower())[0]
    if DISPERSED.search(theory):
        return f"its labels, {theory}, have dispersion, which D3 adds once more"
    if learned and OTHER_NAMES.get(learned, learned) != name:
        return f"its labels are {theory}, but the dispersion is that which belongs to {name}"
    return ""


def damping_of(words: str) -> tuple[str, Damping, bool]:
    """Name and damping of a functional, and whether the three-body term is wanted, from "pbe" or "PBE+ATM".

    Raises:
        ValueError: an unknown functional; says which there are.
    """
    name = words.lower().removesuffix(THREE_BODY)
    name = choose("functional of D3", OTHER_NAMES.get(name, name), FUNCTIONALS)
    return name, FUNCTIONALS[name], words.lower().endswith(THREE_BODY)
