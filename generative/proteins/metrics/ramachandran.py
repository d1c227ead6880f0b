"""Suite "ramachandran": do phi and psi of a residue go together as in proteins.

| metric | what it is |
|---|---|
| favoured | share of residues where 98 % of those of known structures are |
| allowed | share of residues where the next 1.8 % of them are |
| outliers | share of all others: of known structures 0.2 %, of chains that the regions were not made from 0.3 % |

The regions (ramachandran.txt, made by benchmarks/recipes/make_ramachandran.py) are those of the density of 160 X-ray
chains, all residues together: generated chains have no sequence, so that glycine, which goes where no other residue
does, cannot be told apart. They are wider than the general ones of MolProbity, and narrower than its ones of glycine:
numbers of the two do not compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from atomsml.generative.core.metrics import SuiteResult
from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.metrics.geometry import phi_psi_omega, share, shares

VERSION = "ramachandran-1"
CELL = 5  # degrees
FAVOURED, ALLOWED, OUTLIER = "F", "A", "."
THRESHOLDS = {"cell": CELL, "favoured": 0.98, "allowed": 0.998}
FILE = Path(__file__).with_suffix(".txt")


def ramachandran(chains: Sequence[Chain]) -> SuiteResult:
    """Metrics over chains of finite coordinates, of the residues that have both angles."""
    letters = [region_of(phi_psi_omega(chain)[1:-1, :2]) for chain in chains]
    outliers = [each == OUTLIER for each in letters]
    metrics = {
        "favoured": share([each == FAVOURED for each in letters]),
        "allowed": share([each == ALLOWED for each in letters]),
        "outliers": share(outliers),
    }
    return SuiteResult(VERSION, THRESHOLDS, metrics, (), {"ramachandran_outliers": shares(outliers)})


def region_of(angles: np.ndarray) -> np.ndarray:
    """(residues,) letters of the regions that (residues, 2) phi and psi in degrees are in."""
    return regions()[cells_of(angles)]


@cache
def regions() -> np.ndarray:
    """(phi, psi) the letter of each cell, both ascending from -180 degrees."""
    rows = FILE.read_text(encoding="utf-8").split()
    return np.array([list(row) for row in reversed(rows)]).T


def cells_of(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which cell (phi, psi) each of (residues, 2) angles in degrees is in."""
    phi, psi = ((angles + 180) // CELL).astype(int).T % (360 // CELL)
    return phi, psi
