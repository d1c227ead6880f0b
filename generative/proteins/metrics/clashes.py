"""Suite "clashes": does the chain run through itself. Residues that are two or fewer apart along it do not count.

| metric | what it is |
|---|---|
| ca | share of residues whose CA is closer than 3.5 A to that of another residue |
| ca_close | the same below 3.0 A, which no protein has |
| atoms | share of residues with N, CA, C or O closer to an atom of another residue than `CONTACT` allows |
| chains_without | share of chains without any of them |

The limits of atoms are the extreme ones of Ramachandran and Sasisekharan (Adv. Protein Chem. 23, 283, 1968). Side
chains are not there, so a chain without clashes may still have no room for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np

from atomsml.generative.core.metrics import SuiteResult, fraction
from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.metrics.geometry import share, shares

VERSION = "clashes-1"
APART = 2  # residues; nearer ones along the chain are not looked at
CA, CA_CLOSE = 3.5, 3.0  # Angstrom
CONTACT = {"C-C": 3.0, "C-N": 2.8, "C-O": 2.7, "N-N": 2.6, "N-O": 2.6, "O-O": 2.6}  # Angstrom, by elements
ELEMENTS = "NCCO"  # of N, CA, C and O
THRESHOLDS = {"apart": APART, "ca": CA, "ca_close": CA_CLOSE, "contact": CONTACT}


def clashes(chains: Sequence[Chain]) -> SuiteResult:
    """Metrics over chains of finite coordinates; `failures` names the residues that clash."""
    distances = [ca_distances(chain) for chain in chains]
    ca = [_closer(each, CA) for each in distances]
    atoms = [_atoms_clash(chain) for chain in chains]
    any_of = [first | second for first, second in zip(ca, atoms, strict=True)]
    metrics = {
        "ca": share(ca),
        "ca_close": share([_closer(each, CA_CLOSE) for each in distances]),
        "atoms": share(atoms),
        "chains_without": fraction(sum(not each.any() for each in any_of), len(chains)),
    }
    reasons = tuple(_reason(chain, each) for chain, each in zip(chains, any_of, strict=True))
    return SuiteResult(VERSION, THRESHOLDS, metrics, reasons, {"ca_clashes": shares(ca), "atom_clashes": shares(atoms)})


def ca_distances(chain: Chain) -> np.ndarray:
    """(residues, residues) between CA, infinite between residues that are not looked at."""
    return np.where(_far(len(chain)), _distances(chain.coordinates[:, 1], chain.coordinates[:, 1]), np.inf)


def _closer(distances: np.ndarray, limit: float) -> np.ndarray:
    """(residues,) whether any of the others is."""
    return np.asarray((distances < limit).any(axis=1))


def _atoms_clash(chain: Chain) -> np.ndarray:
    """(residues,) whether an atom of it is too close to one of another residue."""
    far = _far(len(chain))
    found = np.zeros(len(chain), bool)
    for first, second in combinations_with_replacement(range(len(ELEMENTS)), 2):
        limit = CONTACT["-".join(sorted(ELEMENTS[first] + ELEMENTS[second]))]
        close = far & (_distances(chain.coordinates[:, first], chain.coordinates[:, second]) < limit)
        found |= close.any(axis=0) | close.any(axis=1)
    return found


def _far(residues: int) -> np.ndarray:
    places = np.arange(residues)
    return np.abs(places[:, None] - places) > APART


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a[:, None] - b, axis=-1)


def _reason(chain: Chain, clashing: np.ndarray) -> str:
    return f"clashes at {', '.join(chain.labels[i] for i in np.flatnonzero(clashing))}" if clashing.any() else ""
